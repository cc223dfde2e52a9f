/** The server of the tests: each route answers a plain run unless a test says otherwise. */
import { http, HttpResponse, type JsonBodyType } from "msw";
import { setupServer } from "msw/node";

import type { Run, RunStatus, Schemas } from "../api/client";
import { makeStatus } from "./fixtures";

export const RUN_ID = "matensemble_workflow-20260301_105551";
export const RUN_URL = `/runs/${RUN_ID}`;

const API = "http://localhost:3000/api/v1";

export function makeRun(status: Partial<RunStatus> = {}, parts: Partial<Run> = {}): Run {
  return { ...makeListedRun(makeStatus(status)), ...parts };
}

function makeListedRun(status: RunStatus): Run {
  return {
    id: RUN_ID,
    health: "alive",
    problem: "",
    status,
    last_sign_at: status.updated_at,
    advice: "",
    command: null,
    progress: 0.5,
    elapsed_seconds: 3849,
    eta_seconds: 1000,
    node_hours: 3.2,
  };
}

/** What the server says of the failures of a run. */
export function makeFailures(
  clusters: readonly Schemas["FailureClusterResponse"][],
  parts: Partial<Schemas["FailuresResponse"]> = {},
): Schemas["FailuresResponse"] {
  return {
    clusters: [...clusters],
    num_clusters: clusters.length,
    num_failed: clusters.reduce((sum, { failed }) => sum + failed, 0),
    num_skipped: clusters.reduce((sum, { skipped }) => sum + skipped, 0),
    freshness: { is_complete: true, share: 1, problem: "" },
    ...parts,
  };
}

export const server = setupServer(
  answer("/settings", { version: "0.6.0", root: "~/study", is_single_run: false, allow_actions: false }),
  answer(RUN_URL, makeRun()),
  // What the overview asks besides, of a run in which nothing has happened.
  answer(`${RUN_URL}/series`, { run: { end: 0 } }),
  answer(`${RUN_URL}/failures`, makeFailures([])),
  answer(`${RUN_URL}/waiting`, { num_blocked: 0 }),
  answer(`${RUN_URL}/history`, { events: [], total: 0, next: null }),
);

/** Answer a GET below /api/v1 with JSON; later ones come first: `server.use(answer(…))`. */
export function answer(path: string, body: JsonBodyType, status = 200) {
  return http.get(`${API}${path}`, () =>
    HttpResponse.json(body, { status, headers: { date: new Date(Date.now()).toUTCString() } }),
  );
}

/** Answer by the question: its search parameters, or what was sent. */
export function answerBy(
  path: string,
  respond: (url: URL, request: Request) => JsonBodyType | Response | Promise<JsonBodyType | Response>,
  method: "get" | "post" = "get",
) {
  return http[method](`${API}${path}`, async ({ request }) => {
    const body = await respond(new URL(request.url), request);
    return body instanceof Response ? body : HttpResponse.json(body);
  });
}

/** Refuse with a problem, as the server words it. */
export function refuse(path: string, status: number, detail: string) {
  return answer(path, { title: "No", detail }, status);
}

/** Break the connection. */
export function cut(path: string) {
  return http.get(`${API}${path}`, () => HttpResponse.error());
}
