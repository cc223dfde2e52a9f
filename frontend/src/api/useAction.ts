/** Ask the driver of a run for something, and follow what becomes of it. */
import { useMutation, type UseMutationResult } from "@tanstack/react-query";

import { ApiError, BASE_URL, OWN_HEADERS, type Schemas } from "./client";

/** How often it is looked whether the driver has answered. */
export const ANSWER_MILLISECONDS = 700;
/** After that many looks the request is left to a driver that is slow, or not there. */
export const MAX_LOOKS = 40;

/** What to do, and with which chores. */
export interface ActionRequest {
  verb: "pause" | "unpause" | "cancel" | "retry" | "prioritise" | "add-time";
  /** Ids. */
  chores?: string[];
  /** Every chore of these groups. */
  groups?: string[];
  /** Every chore that failed by itself. */
  failed?: boolean;
  /** Every chore that failed with this reason. */
  reason?: Schemas["Reason"];
  /** The whole run. */
  everything?: boolean;
  /** For `prioritise`: lower runs first. */
  nice?: number;
  /** For `add-time`: what to add. */
  duration?: string;
}

/** What became of a request. `waiting` where nobody has answered yet. */
export interface ActionOutcome {
  state: "waiting" | "done" | "refused";
  text: string;
}

/** The mutation takes the request and ends with its outcome. */
export function useAction(runId: string): UseMutationResult<ActionOutcome, Error, ActionRequest> {
  return useMutation({ mutationFn: (request: ActionRequest) => carryOut(runId, request) });
}

async function carryOut(runId: string, request: ActionRequest): Promise<ActionOutcome> {
  const url = `${BASE_URL}api/v1/runs/${encodeURIComponent(runId)}/actions`;
  const { id } = await ask<{ id: string }>(
    new Request(url, {
      method: "POST",
      headers: { ...OWN_HEADERS, "Content-Type": "application/json" },
      body: JSON.stringify(request),
    }),
  );
  let outcome: ActionOutcome = { state: "waiting", text: "" };
  for (let looks = 0; looks < MAX_LOOKS && outcome.state === "waiting"; looks += 1) {
    await new Promise((resolve) => setTimeout(resolve, ANSWER_MILLISECONDS));
    outcome = await ask<ActionOutcome>(new Request(`${url}/${encodeURIComponent(id)}`));
  }
  return outcome;
}

async function ask<T>(request: Request): Promise<T> {
  const response = await fetch(request);
  const body: unknown = await response.json();
  if (!response.ok) {
    throw new ApiError(response.status, body as Schemas["Problem"]);
  }
  return body as T;
}
