/** What happened in a run over time, and how much of what it has was busy. */
import { keepPreviousData, useQuery, type UseQueryResult } from "@tanstack/react-query";

import { client, take, type Schemas } from "./client";

export type Series = Schemas["SeriesResponse"];

/** The whole run in so many bins at most. */
export function useSeries(runId: string, bins: number): UseQueryResult<Series> {
  return useQuery({
    queryKey: ["run", runId, "series", bins],
    queryFn: ({ signal }) =>
      take(
        client.GET("/api/v1/runs/{run_id}/series", {
          params: { path: { run_id: runId }, query: { bins } },
          signal,
        }),
      ),
    placeholderData: keepPreviousData,
  });
}
