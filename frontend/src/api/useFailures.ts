/** The failures of a run by their cause. */
import { useQuery, type UseQueryResult } from "@tanstack/react-query";

import { client, take, type Schemas } from "./client";

export type FailureCluster = Schemas["FailureClusterResponse"];

export function useFailures(runId: string): UseQueryResult<Schemas["FailuresResponse"]> {
  return useQuery({
    queryKey: ["run", runId, "failures"],
    queryFn: ({ signal }) =>
      take(client.GET("/api/v1/runs/{run_id}/failures", { params: { path: { run_id: runId } }, signal })),
  });
}
