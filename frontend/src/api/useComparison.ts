/** Two runs side by side. */
import { keepPreviousData, useQuery, type UseQueryResult } from "@tanstack/react-query";

import { client, take, type Schemas } from "./client";

export type Comparison = Schemas["ComparisonResponse"];

/** No stream tells of two runs, so it is asked again whenever the reader comes back. */
export function useComparison(a: string, b: string): UseQueryResult<Comparison> {
  return useQuery({
    queryKey: ["compare", a, b],
    queryFn: ({ signal }) => take(client.GET("/api/v1/compare", { params: { query: { a, b } }, signal })),
    enabled: a !== "" && b !== "",
    placeholderData: keepPreviousData,
    refetchOnMount: "always",
    refetchOnWindowFocus: "always",
  });
}
