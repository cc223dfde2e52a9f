/** The runs and one run, as they were last published. */
import { useQuery, type UseQueryResult } from "@tanstack/react-query";

import { client, take, type Run, type Schemas } from "./client";

const LIST_MILLISECONDS = 5000;

/** Key of what is known of a run; the stream puts newer answers there. */
export function runKey(runId: string) {
  return ["run", runId, "run"] as const;
}

/**
 * One run.
 *
 * @param interval milliseconds between looks; false while a stream brings what is new.
 */
export function useRunQuery(runId: string, interval: number | false): UseQueryResult<Run> {
  return useQuery({
    queryKey: runKey(runId),
    queryFn: ({ signal }) =>
      take(client.GET("/api/v1/runs/{run_id}", { params: { path: { run_id: runId } }, signal })),
    refetchInterval: interval,
  });
}

/** The runs, newest first, renewed every few seconds while the page is seen. */
export function useRuns(): UseQueryResult<Schemas["RunListResponse"]> {
  return useQuery({
    queryKey: ["runs"],
    queryFn: ({ signal }) => take(client.GET("/api/v1/runs", { signal })),
    refetchInterval: LIST_MILLISECONDS,
    refetchOnMount: "always",
    refetchOnWindowFocus: "always",
  });
}
