/** Ask the driver of a run for something, and follow what becomes of it. */
import { useMutation, type UseMutationResult } from "@tanstack/react-query";

import { client, OWN_HEADERS, take, type Schemas } from "./client";

/** How often it is looked whether the driver has answered. */
const ANSWER_MILLISECONDS = 700;
/** After so many looks the request is left to a driver that is slow. */
const MAX_LOOKS = 40;
/** All that need not be said. */
const NOTHING = { chores: [], groups: [], failed: false, everything: false };

type Request = Schemas["ActionRequest"];

/** What to do, and with which chores: named ones, or all of some kind. */
export type ActionRequest = Partial<Request> & Pick<Request, "verb">;

/** What became of a request. */
export interface ActionOutcome {
  /** `waiting` where nobody has answered yet. */
  state: Schemas["ActionState"];
  /** What was done, or why nothing was, or why no driver sees it soon. */
  text: string;
  /** The command that starts a driver, where there is none. */
  command: string | null;
}

/** The mutation takes the request and ends with its outcome. */
export function useAction(runId: string): UseMutationResult<ActionOutcome, Error, ActionRequest> {
  return useMutation({ mutationFn: (request: ActionRequest) => carryOut(runId, request) });
}

async function carryOut(runId: string, request: ActionRequest): Promise<ActionOutcome> {
  const { id, note, command } = await take(
    client.POST("/api/v1/runs/{run_id}/actions", {
      params: { path: { run_id: runId } },
      headers: OWN_HEADERS,
      body: { ...NOTHING, ...request },
    }),
  );
  if (command !== null) {
    return { state: "waiting", text: note, command };
  }
  for (let looks = 0; looks < MAX_LOOKS; looks += 1) {
    await new Promise((resolve) => setTimeout(resolve, ANSWER_MILLISECONDS));
    const { state, text } = await take(
      client.GET("/api/v1/runs/{run_id}/actions/{action_id}", {
        params: { path: { run_id: runId, action_id: id } },
      }),
    );
    if (state !== "waiting") {
      return { state, text, command };
    }
  }
  return { state: "waiting", text: "the driver has not answered yet", command };
}
