/** The one way to the server: typed by its OpenAPI document, errors as a class. */
import createClient from "openapi-fetch";

import type { components, paths } from "./generated/schema";
import { noteServerTime } from "./serverClock";

export type Schemas = components["schemas"];
export type Run = Schemas["RunResponse"];
export type RunStatus = Schemas["RunStatusResponse"];
export type RunState = Schemas["RunState"];
export type ChoreState = Schemas["ChoreState"];
export type ChoreRow = Schemas["ChoreRow"];
export type Counts = Schemas["CountsResponse"];
export type Freshness = Schemas["FreshnessResponse"];
type Problem = Schemas["Problem"];

/** An answer that is not the data asked for. */
export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, problem: Problem | undefined) {
    super(problem?.detail ?? `The server answered with code ${status}.`);
    this.name = "ApiError";
    this.status = status;
  }
}

/** Address of the page without its fragment: it may stand below a prefix. Ends with a slash. */
export const BASE_URL = new URL(".", window.location.href).href;

/** Header that a page of another origin cannot send without asking first. */
export const OWN_HEADERS = { "X-MatEnsemble": "1" };

/** Asks the server; the answer is unwrapped by `take`. */
export const client = createClient<paths>({
  baseUrl: BASE_URL,
  // Looked up at each call, so that tests can put theirs in its place.
  fetch: (request) => globalThis.fetch(request),
});

/** What the client answers; `data` or `error`. */
interface Answer<T> {
  data?: T;
  error?: Problem;
  response: Response;
}

/** Return the data of an answer. Throws `ApiError`, or `TypeError` where nobody answers. */
export async function take<T>(asked: Promise<Answer<T>>): Promise<T> {
  const { data, error, response } = await asked;
  noteServerTime(response);
  if (data === undefined) {
    throw new ApiError(response.status, error);
  }
  return data;
}

/**
 * Exchange the token in the address, if there is one, for the session cookie.
 *
 * It leaves the address bar and the history entry first: neither should show it to anybody.
 */
export async function startSession(): Promise<void> {
  const fragment = new URLSearchParams(window.location.hash.slice(1));
  const token = fragment.get("token");
  if (token === null) {
    return;
  }
  window.history.replaceState(null, "", window.location.pathname);
  const { error, response } = await client.POST("/api/session", {
    headers: { ...OWN_HEADERS, Authorization: `Bearer ${token}` },
  });
  if (!response.ok) {
    throw new ApiError(response.status, error);
  }
}
