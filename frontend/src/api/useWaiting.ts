/** For what the blocked chores of a run wait. */
import { useQuery, type UseQueryResult } from "@tanstack/react-query";

import { client, take, type Schemas } from "./client";

export function useWaiting(runId: string): UseQueryResult<Schemas["WaitingResponse"]> {
  return useQuery({
    queryKey: ["run", runId, "waiting"],
    queryFn: ({ signal }) =>
      take(client.GET("/api/v1/runs/{run_id}/waiting", { params: { path: { run_id: runId } }, signal })),
  });
}
