/**
 * Chores of a run in pages that are fetched as they are looked at.
 *
 * The server gives pages by key: each says where the next begins. Where pages begin is remembered
 * (the trail, about 100 bytes a page); the pages themselves are kept only while they are near the
 * window, and only those are asked for again when the run goes on. So neither memory nor the load
 * of the server grows with the run.
 */
import {
  keepPreviousData,
  queryOptions,
  skipToken,
  useQueries,
  useQuery,
  useQueryClient,
  type QueryClient,
} from "@tanstack/react-query";
import { useState } from "react";

import { formatQuestion, type ChoreQuestion } from "../lib/choreFilter";
import { BASE_URL, client, take, type ChoreRow, type Schemas } from "./client";

const PAGE_ROWS = 200;
/** How far down a table goes; the other end is reached by turning the order round. */
export const MAX_ROWS = 500_000;
const KEPT_MILLISECONDS = 30_000;
const TRAIL_KEPT_MILLISECONDS = 600_000;

type Page = Schemas["ChorePageResponse"];

/** Where the pages of a question begin, as far as is known; null: at the beginning. */
type Trail = readonly (string | null)[];
const BEGINNING: Trail = [null];

interface Table {
  /** The question that the rows answer: the last one until the new one has its first page. */
  question: ChoreQuestion;
  /** The first page; undefined before any was there. */
  first: Page | undefined;
  /** Rows that can be scrolled to; grows with the trail. */
  numReachable: number;
  isStale: boolean;
  error: Error | null;
}

/** How far the table of a question is known. */
export function useChoreTable(runId: string, question: ChoreQuestion): Table {
  const queryClient = useQueryClient();
  const [shown, setShown] = useState(question);
  const key = formatQuestion(question);
  const first = useQuery({
    ...pageOptions(queryClient, runId, question, BEGINNING, 0),
    placeholderData: keepPreviousData,
  });
  if (first.isSuccess && !first.isPlaceholderData && formatQuestion(shown) !== key) {
    setShown(question);
  }
  const trail = useTrail(runId, shown);
  const numReachable = Math.min(first.data?.total ?? 0, trail.length * PAGE_ROWS, MAX_ROWS);
  return {
    question: shown,
    first: first.data,
    numReachable,
    isStale: first.isPlaceholderData,
    error: first.error,
  };
}

/** The rows of a window, and of where the reader may go next; undefined where they are awaited. */
export function useChoreRows(
  runId: string,
  question: ChoreQuestion,
  firstRow: number,
  lastRow: number,
): { rowAt: (index: number) => ChoreRow | undefined; error: Error | null } {
  const queryClient = useQueryClient();
  const trail = useTrail(runId, question);
  const from = Math.max(0, Math.floor((firstRow - PAGE_ROWS / 4) / PAGE_ROWS));
  const to = Math.min(trail.length - 1, Math.floor((lastRow + PAGE_ROWS / 2) / PAGE_ROWS));
  const indices = Array.from({ length: Math.max(0, to - from + 1) }, (_, step) => from + step);
  const pages = useQueries({
    queries: indices.map((index) => pageOptions(queryClient, runId, question, trail, index)),
  });
  return {
    rowAt: (index) => {
      const page = pages[Math.floor(index / PAGE_ROWS) - from];
      return page?.data?.chores[index % PAGE_ROWS];
    },
    error: pages.find((page) => page.error !== null)?.error ?? null,
  };
}

/** Address of all chores that a question leaves, as a file. */
export function exportUrl(runId: string, question: ChoreQuestion, format: "csv" | "json"): string {
  const search = [`format=${format}`, formatQuestion(question)];
  const path = `api/v1/runs/${encodeURIComponent(runId)}/chores`;
  return `${BASE_URL}${path}?${search.filter((part) => part !== "").join("&")}`;
}

function trailKey(runId: string, question: ChoreQuestion) {
  return ["choreTrail", runId, formatQuestion(question)] as const;
}

function useTrail(runId: string, question: ChoreQuestion): Trail {
  const { data = BEGINNING } = useQuery<Trail>({
    queryKey: trailKey(runId, question),
    queryFn: skipToken,
    gcTime: TRAIL_KEPT_MILLISECONDS,
  });
  return data;
}

function pageOptions(
  queryClient: QueryClient,
  runId: string,
  question: ChoreQuestion,
  trail: Trail,
  index: number,
) {
  const cursor = trail[index] ?? null;
  return queryOptions({
    queryKey: ["run", runId, "chores", formatQuestion(question), cursor],
    queryFn: async ({ signal }) => {
      const query = { ...question, limit: PAGE_ROWS, ...(cursor === null ? {} : { cursor }) };
      const path = { run_id: runId };
      // Without `format` it is no table.
      const page = (await take(
        client.GET("/api/v1/runs/{run_id}/chores", { params: { path, query }, signal }),
      )) as Page;
      queryClient.setQueryData<Trail>(trailKey(runId, question), (known = BEGINNING) =>
        // A late answer about a place that has moved meanwhile tells nothing.
        (known[index] ?? null) === cursor ? extendTrail(known, index, page.next) : known,
      );
      return page;
    },
    gcTime: KEPT_MILLISECONDS,
  });
}

/** Note where the page behind `index` begins; what was known behind another place is void. */
export function extendTrail(trail: Trail, index: number, next: string | null): Trail {
  if (next === (trail[index + 1] ?? null)) {
    return trail;
  }
  return next === null ? trail.slice(0, index + 1) : [...trail.slice(0, index + 1), next];
}
