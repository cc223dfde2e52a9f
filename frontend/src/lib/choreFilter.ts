/** Which chores are asked for and in what order, as the address of a page and the server know it. */
import type { ChoreState, Schemas } from "../api/client";
import { parseChoreState } from "./choreState";

export type Reason = Schemas["Reason"];
export type ChoreSort = "order" | "seconds" | "ended_at";

/** What the server is asked; conditions that are left out hold for every chore. */
export interface ChoreQuestion {
  state?: ChoreState;
  group?: string;
  reason?: Reason;
  host?: string;
  cluster?: number;
  retried?: true;
  text?: string;
  sort?: ChoreSort;
  descending?: true;
}

/** The conditions that can be set on a page, by their names in its address. */
const CONDITIONS = ["text", "state", "group", "reason", "host", "cluster", "retried"] as const;
export type Condition = (typeof CONDITIONS)[number];

const SORTS: readonly ChoreSort[] = ["order", "seconds", "ended_at"];
/** As the server takes them. */
const MAX_CHARACTERS = 255;
const MAX_CLUSTER = 2 ** 31;

// As a record, so that the compiler finds one that is missing.
const REASON_RECORD: Record<Reason, true> = {
  nonzero_exit: true,
  signal: true,
  exception: true,
  import_error: true,
  unpicklable_result: true,
  result_missing: true,
  result_corrupt: true,
  executable_not_found: true,
  submit_error: true,
  exceeds_allocation: true,
  duration_exceeded: true,
  idle_timeout: true,
  output_exceeded: true,
  out_of_memory: true,
  node_failure: true,
  io_error: true,
  invalid_spec: true,
  dependency_failed: true,
  cancelled: true,
};
export const REASONS = Object.keys(REASON_RECORD) as readonly Reason[];

/** Read an address; what it says wrongly is left out. */
export function parseQuestion(params: URLSearchParams): ChoreQuestion {
  const question: ChoreQuestion = {};
  const state = parseChoreState(params.get("state"));
  const reason = REASONS.find((known) => known === params.get("reason"));
  const sort = SORTS.find((known) => known === params.get("sort"));
  const cluster = Number(params.get("cluster"));
  if (state !== null) {
    question.state = state;
  }
  if (reason !== undefined) {
    question.reason = reason;
  }
  if (Number.isInteger(cluster) && cluster > 0 && cluster < MAX_CLUSTER) {
    question.cluster = cluster;
  }
  for (const name of ["group", "host", "text"] as const) {
    const text = params.get(name)?.slice(0, MAX_CHARACTERS) ?? "";
    if (text !== "") {
      question[name] = text;
    }
  }
  if (params.get("retried") === "true") {
    question.retried = true;
  }
  if (sort !== undefined && sort !== "order") {
    question.sort = sort;
  }
  if (params.get("descending") === "true") {
    question.descending = true;
  }
  return question;
}

/** Return the address with one condition set, or left out where the value is empty. */
export function withCondition(params: URLSearchParams, name: string, value: string): URLSearchParams {
  const next = new URLSearchParams(params);
  if (value === "") {
    next.delete(name);
  } else {
    next.set(name, value);
  }
  return next;
}

/** Return the address without any condition; the order stays. */
export function withoutConditions(params: URLSearchParams): URLSearchParams {
  const next = new URLSearchParams(params);
  for (const name of CONDITIONS) {
    next.delete(name);
  }
  return next;
}

/** Whether any chore may be left out. */
export function isFiltered(question: ChoreQuestion): boolean {
  return CONDITIONS.some((name) => question[name] !== undefined);
}

/** The search part of an address that asks the same. */
export function formatQuestion(question: ChoreQuestion): string {
  return new URLSearchParams(
    Object.entries(question).map(([name, value]) => [name, String(value)]),
  ).toString();
}
