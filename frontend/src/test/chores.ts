/** Chores as data, and a server that has many of them. */
import { vi } from "vitest";

import type { ChoreRow, Schemas } from "../api/client";

export const FRESH = { is_complete: true, share: 1, problem: "" };

export function makeChore(parts: Partial<ChoreRow> = {}): ChoreRow {
  return {
    id: "chore-relax-0001",
    name: "relax",
    kind: "python",
    state: "completed",
    attempt: 1,
    reason: null,
    exit_code: 0,
    detail: "",
    root: null,
    host: "n1",
    submitted_at: 1772362800,
    started_at: 1772362801,
    ended_at: 1772362861.5,
    seconds: 60.5,
    ...parts,
  };
}

/** Answer a page as the route does; a cursor is the number of the chore before. */
export function pageOf(chores: readonly ChoreRow[], url: URL): Schemas["ChorePageResponse"] {
  const query = url.searchParams;
  const text = query.get("text") ?? "";
  const state = query.get("state");
  const found = chores.filter((chore) => chore.id.includes(text) && (state === null || chore.state === state));
  const start = Number(query.get("cursor") ?? 0);
  const end = start + Number(query.get("limit"));
  return {
    chores: found.slice(start, end),
    total: found.length,
    next: end < found.length ? String(end) : null,
    freshness: FRESH,
  };
}

/** Give elements sizes, which jsdom does not: a virtual list shows what fits. */
export function giveElementsSize(windowPixels: number, rowPixels: number): void {
  vi.spyOn(Element.prototype, "clientHeight", "get").mockReturnValue(windowPixels);
  vi.spyOn(HTMLElement.prototype, "offsetHeight", "get").mockReturnValue(rowPixels);
}
