/** Addresses of pages about chores. */
import { formatQuestion, type ChoreQuestion } from "./choreFilter";

export function choreAddress(runId: string, choreId: string): string {
  return `/runs/${encodeURIComponent(runId)}/chores/${encodeURIComponent(choreId)}`;
}

/** The table of the chores that a question leaves. */
export function choresAddress(runId: string, question: ChoreQuestion): string {
  const search = formatQuestion(question);
  return `/runs/${encodeURIComponent(runId)}/chores${search === "" ? "" : `?${search}`}`;
}
