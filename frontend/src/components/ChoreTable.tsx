/** A table of chores of any length: only the rows in the window are on the page. */
import { useQueryClient } from "@tanstack/react-query";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useRef, useState } from "react";
import { Link, useNavigate } from "react-router";

import type { ChoreRow } from "../api/client";
import { serverNow } from "../api/serverClock";
import { useChoreRows } from "../api/useChores";
import { choreAddress } from "../lib/choreAddress";
import { formatQuestion, type ChoreQuestion, type ChoreSort } from "../lib/choreFilter";
import {
  formatAgo,
  formatDuration,
  formatInstantOf,
  formatReason,
  formatSeconds,
} from "../lib/format";
import { useNow } from "../lib/useNow";
import { useShortcut } from "../shell/shortcuts";
import { ChoreStateMark } from "./ChoreStateBadge";
import "./ChoreTable.css";

/** Height of a row in pixels, as in `ChoreTable.css`. */
const ROW_PIXELS = 30;
const OVERSCAN = 12;

interface Column {
  /** Class of its cells. */
  id: string;
  name: string;
  sort?: ChoreSort;
  /** Whether the first click on its name puts the greatest first. */
  isDescendingFirst?: boolean;
  isNumber?: boolean;
  cell: (chore: ChoreRow) => React.ReactNode;
  title?: (chore: ChoreRow) => string;
}

const COLUMNS: readonly Column[] = [
  { id: "group", name: "group", cell: ({ name }) => name, title: ({ name }) => name },
  { id: "state", name: "state", cell: ({ state }) => <ChoreStateMark state={state} /> },
  {
    id: "reason",
    name: "reason",
    cell: ({ reason }) => (reason === null ? "" : formatReason(reason)),
    title: ({ reason }) => reason ?? "",
  },
  {
    id: "attempt",
    name: "attempt",
    isNumber: true,
    cell: ({ attempt }) => (attempt === 0 ? "–" : attempt),
  },
  { id: "host", name: "host", cell: ({ host }) => host, title: ({ host }) => host },
  instantColumn("started", "started_at"),
  instantColumn("ended", "ended_at"),
  {
    id: "duration",
    name: "duration",
    sort: "seconds",
    isDescendingFirst: true,
    isNumber: true,
    cell: ({ state, seconds, started_at: since }) =>
      state === "running" && since !== null ? (
        <Elapsed since={since} />
      ) : seconds === null ? (
        "–"
      ) : (
        formatSeconds(seconds)
      ),
  },
  {
    id: "exit",
    name: "exit code",
    isNumber: true,
    cell: ({ exit_code }) => exit_code ?? "–",
  },
  { id: "detail", name: "detail", cell: ({ detail }) => detail, title: ({ detail }) => detail },
];

/** How long a chore has run by now. */
function Elapsed({ since }: { since: number }) {
  useNow(true);
  return formatDuration(serverNow() / 1000 - since);
}

function instantColumn(name: string, field: "started_at" | "ended_at"): Column {
  return {
    id: name,
    name,
    ...(field === "ended_at" && { sort: field, isDescendingFirst: true }),
    isNumber: true,
    cell: (chore) => {
      const at = chore[field];
      return at === null ? "–" : formatAgo(serverNow() / 1000 - at);
    },
    title: (chore) => {
      const at = chore[field];
      return at === null ? "" : formatInstantOf(at);
    },
  };
}

interface ChoreTableProps {
  runId: string;
  /** What the rows answer. */
  question: ChoreQuestion;
  numRows: number;
  total: number;
  /** Whether the rows still answer the question before. */
  isStale: boolean;
  onSort: (sort: ChoreSort, isDescending: boolean) => void;
}

export function ChoreTable({ runId, question, numRows, total, isStale, onSort }: ChoreTableProps) {
  const region = useRef<HTMLDivElement>(null);
  const navigate = useNavigate();
  const place = usePlace(runId, question, numRows);
  // eslint-disable-next-line react-hooks/incompatible-library -- its functions are not memoised here
  const virtualizer = useVirtualizer({
    count: numRows,
    getScrollElement: () => region.current,
    estimateSize: () => ROW_PIXELS,
    overscan: OVERSCAN,
    initialOffset: place.offset,
    // Until the window is measured.
    initialRect: { width: 1200, height: 20 * ROW_PIXELS },
  });
  const items = virtualizer.getVirtualItems();
  const first = items[0]?.index ?? 0;
  const last = items.at(-1)?.index ?? 0;
  const { rowAt } = useChoreRows(runId, question, first, last);
  const current = useCurrentRow(
    numRows,
    () => Math.ceil((virtualizer.scrollOffset ?? 0) / ROW_PIXELS),
    (index) => {
      virtualizer.scrollToIndex(index);
    },
  );
  const open = (event: React.MouseEvent, chore: ChoreRow) => {
    const isPlain = !event.ctrlKey && !event.metaKey && !event.shiftKey;
    if (isPlain && !(event.target as Element).closest("a") && !hasSelection()) {
      void navigate(choreAddress(runId, chore.id));
    }
  };
  return (
    <div
      className="chore-window"
      role="region"
      aria-label="Chores"
      tabIndex={0}
      ref={region}
      onScroll={(event) => {
        place.remember(event.currentTarget.scrollTop);
      }}
    >
      <table className="chore-table" aria-rowcount={total + 1} aria-busy={isStale}>
        <Head question={question} onSort={onSort} />
        <Gap rows={first} />
        <tbody>
          {items.map(({ index }) => {
            const chore = rowAt(index);
            return (
              <tr
                key={index}
                aria-rowindex={index + 2}
                className={index === current ? "is-current" : undefined}
                onClick={(event) => {
                  if (chore !== undefined) {
                    open(event, chore);
                  }
                }}
              >
                <Row runId={runId} chore={chore} isCurrent={index === current} />
              </tr>
            );
          })}
        </tbody>
        <Gap rows={numRows - 1 - last} />
      </table>
    </div>
  );
}

/** The rows that are not on the page, as height: a screen reader learns of them by the row count. */
function Gap({ rows }: { rows: number }) {
  return rows <= 0 ? null : (
    <tbody aria-hidden="true">
      <tr className="gap">
        <td style={{ height: rows * ROW_PIXELS }} />
      </tr>
    </tbody>
  );
}

function Head({ question, onSort }: Pick<ChoreTableProps, "question" | "onSort">) {
  const sorting = question.sort ?? "order";
  const isDescending = question.descending ?? false;
  const heading = ({ id, name, sort, isDescendingFirst = false, isNumber }: Omit<Column, "cell">) => {
    const isSorted = sort === sorting;
    return (
      <th
        key={id}
        scope="col"
        className={`col-${id}${isNumber ? " number" : ""}`}
        aria-sort={isSorted ? (isDescending ? "descending" : "ascending") : undefined}
      >
        {sort === undefined ? (
          name
        ) : (
          <button
            type="button"
            title={sort === "order" ? "By the order of admission" : `By ${name}`}
            onClick={() => {
              onSort(sort, isSorted ? !isDescending : isDescendingFirst);
            }}
          >
            {name}
            <span aria-hidden="true">{isSorted ? (isDescending ? " ↓" : " ↑") : " ↕"}</span>
          </button>
        )}
      </th>
    );
  };
  return (
    <thead>
      <tr aria-rowindex={1}>
        {heading({ id: "id", name: "chore", sort: "order" })}
        {COLUMNS.map(heading)}
      </tr>
    </thead>
  );
}

interface RowProps {
  runId: string;
  chore: ChoreRow | undefined;
  isCurrent: boolean;
}

function Row({ runId, chore, isCurrent }: RowProps) {
  if (chore === undefined) {
    return (
      <th scope="row" className="awaited">
        …
      </th>
    );
  }
  return (
    <>
      <th scope="row" className="col-id name" title={chore.id}>
        <Link to={choreAddress(runId, chore.id)} ref={isCurrent ? focus : undefined}>
          {chore.id}
        </Link>
      </th>
      {COLUMNS.map(({ id, isNumber, cell, title }) => (
        <td key={id} className={`col-${id}${isNumber ? " number" : ""}`} title={title?.(chore)}>
          {cell(chore)}
        </td>
      ))}
    </>
  );
}

/** Outside of rendering, so that the link is focused when it becomes the current one only. */
function focus(link: HTMLAnchorElement | null): void {
  link?.focus({ preventScroll: true });
}

/** The row that the keys j and k have reached; they begin at the first that is seen. */
function useCurrentRow(
  numRows: number,
  firstSeen: () => number,
  scrollTo: (index: number) => void,
): number | null {
  const [current, setCurrent] = useState<number | null>(null);
  const go = (step: number) => {
    const wanted = current === null ? firstSeen() : current + step;
    const next = Math.min(numRows - 1, Math.max(0, wanted));
    if (numRows > 0) {
      setCurrent(next);
      scrollTo(next);
    }
  };
  useShortcut("j", "Next chore", () => {
    go(1);
  });
  useShortcut("k", "Chore before", () => {
    go(-1);
  });
  return current;
}

/** Who comes back from a chore finds the place in the table again. */
function usePlace(runId: string, question: ChoreQuestion, numRows: number) {
  const queryClient = useQueryClient();
  const key = ["chorePlace", runId, formatQuestion(question)];
  return {
    offset: () => {
      const offset = queryClient.getQueryData<number>(key) ?? 0;
      return offset < numRows * ROW_PIXELS ? offset : 0;
    },
    remember: (offset: number) => {
      queryClient.setQueryData(key, offset);
    },
  };
}

function hasSelection(): boolean {
  return window.getSelection()?.isCollapsed === false;
}
