/** What ran where and when. */
import { keepPreviousData, useQuery, type UseQueryResult } from "@tanstack/react-query";

import type { TimeWindow } from "../components/timeline/timeWindow";
import { client, take, type Schemas } from "./client";

export type Axis = Schemas["Axis"];

interface TimelineQuestion {
  by: Axis;
  /** Lanes to pass over. */
  offset: number;
  /** Lanes at most. */
  lanes: number;
  /** null for the whole run. */
  window: TimeWindow | null;
}

export function useTimeline(
  runId: string,
  { by, offset, lanes, window }: TimelineQuestion,
): UseQueryResult<Schemas["TimelineResponse"]> {
  const query = { by, lane_offset: offset, lanes, ...window };
  return useQuery({
    queryKey: ["run", runId, "timeline", query],
    queryFn: ({ signal }) =>
      take(
        client.GET("/api/v1/runs/{run_id}/timeline", {
          params: { path: { run_id: runId }, query },
          signal,
        }),
      ),
    placeholderData: keepPreviousData,
  });
}
