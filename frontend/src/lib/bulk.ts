/** What an action on a whole table of chores asks the driver for. */
import type { ActionRequest } from "../api/useAction";
import type { ChoreRow } from "../api/client";
import { isFiltered, type ChoreQuestion } from "./choreFilter";

type Selection = Omit<ActionRequest, "verb" | "nice" | "duration">;

/**
 * Return how the driver is told which chores are meant, or null where it cannot be told.
 *
 * It knows groups, reasons and failures by itself; of anything else the chores are named, where all
 * of them are at hand. No condition at all is left to the actions on the whole run.
 */
export function selectionOf(
  question: ChoreQuestion,
  chores: readonly ChoreRow[],
  total: number,
): Selection | null {
  const { group, reason, state, text, host, cluster, retried } = question;
  if (!isFiltered(question) || total === 0) {
    return null;
  }
  const isElse = [text, host, cluster, retried].some((value) => value !== undefined);
  if (!isElse && group !== undefined && reason === undefined && state === undefined) {
    return { groups: [group] };
  }
  if (!isElse && group === undefined && reason !== undefined && state === undefined) {
    return { reason };
  }
  if (!isElse && group === undefined && reason === undefined && state === "failed") {
    return { failed: true };
  }
  return chores.length === total ? { chores: chores.map(({ id }) => id) } : null;
}
