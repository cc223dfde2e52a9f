/** One chore: what is known of it, why it is where it is, what is next to it, its files. */
import {
  keepPreviousData,
  useInfiniteQuery,
  useQuery,
  type UseQueryResult,
} from "@tanstack/react-query";

import { ApiError, BASE_URL, client, take, type Schemas } from "./client";

/** How many more chores next to one are asked for at a time. */
export const RELATIVES_ROWS = 25;

export type Direction = "upstream" | "downstream";
/** Of a chore that may have been tried several times; null is the latest attempt. */
export type AttemptChoice = number | null;

export function useChore(runId: string, choreId: string): UseQueryResult<Schemas["ChoreResponse"]> {
  return useQuery({
    queryKey: ["run", runId, "chore", choreId],
    queryFn: ({ signal }) =>
      take(
        client.GET("/api/v1/runs/{run_id}/chores/{chore_id}", {
          params: { path: { run_id: runId, chore_id: choreId } },
          signal,
        }),
      ),
  });
}

export function useExplanation(
  runId: string,
  choreId: string,
): UseQueryResult<Schemas["ExplanationResponse"]> {
  return useQuery({
    queryKey: ["run", runId, "explanation", choreId],
    queryFn: ({ signal }) =>
      take(
        client.GET("/api/v1/runs/{run_id}/chores/{chore_id}/explanation", {
          params: { path: { run_id: runId, chore_id: choreId } },
          signal,
        }),
      ),
  });
}

/** The chores next to one, in pages; the newest pages come behind the ones before. */
export function useRelatives(runId: string, choreId: string, direction: Direction) {
  return useInfiniteQuery({
    queryKey: ["run", runId, direction, choreId],
    queryFn: ({ signal, pageParam }) =>
      take(
        client.GET(`/api/v1/runs/{run_id}/chores/{chore_id}/${direction}`, {
          params: {
            path: { run_id: runId, chore_id: choreId },
            query: { cursor: pageParam, limit: RELATIVES_ROWS },
          },
          signal,
        }),
      ),
    initialPageParam: "0",
    getNextPageParam: ({ next }) => next,
    placeholderData: keepPreviousData,
  });
}

/** The files that can be asked for; null where the chore has none, as before its first attempt. */
export function useArtifacts(
  runId: string,
  choreId: string,
  attempt: AttemptChoice,
): UseQueryResult<Schemas["ArtifactListResponse"] | null> {
  return useQuery({
    queryKey: ["run", runId, "artifacts", choreId, attempt],
    queryFn: ({ signal }) =>
      orNull(
        take(
          client.GET("/api/v1/runs/{run_id}/chores/{chore_id}/artifacts", {
            params: { path: { run_id: runId, chore_id: choreId }, query: ofAttempt(attempt) },
            signal,
          }),
        ),
      ),
  });
}

/** A record that an attempt left: how it was started, or how it failed; null where there is none. */
export function useRecord(
  runId: string,
  choreId: string,
  attempt: AttemptChoice,
  name: "metadata" | "error",
  isThere = true,
): UseQueryResult<Schemas["RecordResponse"] | null> {
  return useQuery({
    queryKey: ["run", runId, name, choreId, attempt],
    enabled: isThere,
    queryFn: ({ signal }) =>
      orNull(
        take(
          client.GET(`/api/v1/runs/{run_id}/chores/{chore_id}/${name}`, {
            params: { path: { run_id: runId, chore_id: choreId }, query: ofAttempt(attempt) },
            signal,
          }),
        ),
      ),
  });
}

/** Where a file of a chore is to be had. */
export function downloadUrl(
  runId: string,
  choreId: string,
  attempt: AttemptChoice,
  file: { name: string; is_output: boolean },
): string {
  const query = new URLSearchParams({ [file.is_output ? "output" : "file"]: file.name });
  if (attempt !== null) {
    query.set("attempt", String(attempt));
  }
  const path = `runs/${encodeURIComponent(runId)}/chores/${encodeURIComponent(choreId)}`;
  return `${BASE_URL}api/v1/${path}/download?${query.toString()}`;
}

export function ofAttempt(attempt: AttemptChoice): { attempt?: number } {
  return attempt === null ? {} : { attempt };
}

/** What is not there is an answer too. */
async function orNull<T>(asked: Promise<T>): Promise<T | null> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) {
      return null;
    }
    throw error;
  }
}
