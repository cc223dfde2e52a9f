/** The one way to the server: typed by its OpenAPI document, errors as a class. */
import createClient from "openapi-fetch";

import type { components, paths } from "./generated/schema";

export type RunStatus = components["schemas"]["RunStatusResponse"];
export type RunState = components["schemas"]["RunState"];
export type Counts = components["schemas"]["CountsResponse"];
export type RootFailure = components["schemas"]["RootFailureResponse"];
type Problem = components["schemas"]["Problem"];

/** An answer that is not the data asked for. */
export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, problem: Problem | undefined) {
    super(problem?.detail ?? `The server answered with code ${status}.`);
    this.name = "ApiError";
    this.status = status;
  }
}

const client = createClient<paths>({
  baseUrl: window.location.origin,
  // Looked up at each call, so that tests can put theirs in its place.
  fetch: (request) => globalThis.fetch(request),
});

/** A status, and when the server said so. */
export interface StatusAnswer {
  status: RunStatus;
  /** Server's clock minus this browser's, in milliseconds: ages must not depend on the latter. */
  clockOffset: number;
}

/** Fetch the content of status.json. Throws `ApiError`, or `TypeError` where nobody answers. */
export async function fetchStatus(signal: AbortSignal): Promise<StatusAnswer> {
  const { data, error, response } = await client.GET("/api/status", { signal });
  if (data === undefined) {
    throw new ApiError(response.status, error);
  }
  const serverTime = Date.parse(response.headers.get("date") ?? "");
  return {
    status: data,
    clockOffset: Number.isNaN(serverTime) ? 0 : serverTime - Date.now(),
  };
}

/**
 * Exchange the token in the address, if there is one, for the session cookie.
 *
 * It leaves the address bar and the history entry first: neither should show it to anybody.
 */
export async function startSession(): Promise<void> {
  const token = new URLSearchParams(window.location.hash.slice(1)).get("token");
  if (token === null) {
    return;
  }
  window.history.replaceState(null, "", window.location.pathname);
  const { error, response } = await client.POST("/api/session", {
    headers: { Authorization: `Bearer ${token}` },
  });
  if (!response.ok) {
    throw new ApiError(response.status, error);
  }
}
