/** How much of what a run had was busy, in all and over time. */
import { keepPreviousData, useQuery, type UseQueryResult } from "@tanstack/react-query";

import { client, take, type Schemas } from "./client";

export function useUtilisation(runId: string): UseQueryResult<Schemas["UtilisationResponse"]> {
  return useQuery({
    queryKey: ["run", runId, "utilisation"],
    queryFn: ({ signal }) =>
      take(
        client.GET("/api/v1/runs/{run_id}/utilisation", { params: { path: { run_id: runId } }, signal }),
      ),
    placeholderData: keepPreviousData,
  });
}
