/** The groups of a run with their counts by state. */
import { keepPreviousData, useQuery, type UseQueryResult } from "@tanstack/react-query";

import { client, take, type Schemas } from "./client";

export function useGroups(runId: string): UseQueryResult<Schemas["GroupsResponse"]> {
  return useQuery({
    queryKey: ["run", runId, "groups"],
    queryFn: ({ signal }) =>
      take(client.GET("/api/v1/runs/{run_id}/groups", { params: { path: { run_id: runId } }, signal })),
    placeholderData: keepPreviousData,
  });
}
