/** What happened to a run as a whole, newest first, a page at a time. */
import { useInfiniteQuery } from "@tanstack/react-query";

import { client, take } from "./client";

const PAGE_EVENTS = 10;

export function useHistory(runId: string) {
  return useInfiniteQuery({
    queryKey: ["run", runId, "history"],
    queryFn: ({ signal, pageParam }) =>
      take(
        client.GET("/api/v1/runs/{run_id}/history", {
          params: { path: { run_id: runId }, query: { cursor: pageParam, limit: PAGE_EVENTS } },
          signal,
        }),
      ),
    initialPageParam: null as number | null,
    getNextPageParam: (last) => last.next,
  });
}
