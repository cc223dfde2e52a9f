import type { Counts } from "../api/client";

/** How many chores will not change any more. */
export function countEnded(counts: Counts): number {
  return counts.completed + counts.failed + counts.cancelled;
}
