/** Ranges of a log, and where a text stands in it. */
import { ApiError, client, take, type Schemas } from "./client";
import { ofAttempt, type AttemptChoice } from "./useChore";

type LogStream = Schemas["Stream"];

/** Which log. */
export interface LogPlace {
  runId: string;
  choreId: string;
  attempt: AttemptChoice;
  stream: LogStream;
}

interface Range {
  offset?: number;
  length?: number;
  tail?: number;
  mark?: string;
  is_final?: boolean;
}

interface LogAnswer {
  answer: Schemas["LogResponse"];
  etag: string | null;
}

/**
 * Return a range of a log: null where there is no such file, "same" where it has that ETag still.
 */
export async function readLog(
  { runId, choreId, attempt, stream }: LogPlace,
  range: Range,
  signal: AbortSignal,
  etag: string | null = null,
): Promise<LogAnswer | "same" | null> {
  const asked = client.GET("/api/v1/runs/{run_id}/chores/{chore_id}/log", {
    params: {
      path: { run_id: runId, chore_id: choreId },
      query: { stream, ...ofAttempt(attempt), ...range },
    },
    ...(etag !== null && { headers: { "If-None-Match": etag } }),
    // The browser's own cache would answer 200 for the server's 304.
    cache: "no-store",
    signal,
  });
  const { status, headers } = (await asked).response;
  if (status === 304) {
    return "same";
  }
  if (status === 404) {
    return null;
  }
  return { answer: await take(asked), etag: headers.get("etag") };
}

/** Return where a text stands, from an offset on; the server searches a part of a large log only. */
export async function searchLog(
  { runId, choreId, attempt, stream }: LogPlace,
  text: string,
  offset: number,
  limit: number,
  signal: AbortSignal,
): Promise<Schemas["LogMatchesResponse"]> {
  return take(
    client.GET("/api/v1/runs/{run_id}/chores/{chore_id}/log/search", {
      params: {
        path: { run_id: runId, chore_id: choreId },
        query: { stream, ...ofAttempt(attempt), text, offset, limit, ignore_case: true },
      },
      signal,
    }),
  );
}

/** Whether a question was given up by the page itself. */
export function isAborted(error: unknown): boolean {
  return !(error instanceof ApiError) && error instanceof Error && error.name === "AbortError";
}
