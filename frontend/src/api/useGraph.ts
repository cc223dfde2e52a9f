/** Parts of the graph of a run, as it can be drawn. */
import { keepPreviousData, queryOptions, useQuery, type UseQueryResult } from "@tanstack/react-query";

import { client, take, type ChoreRow, type Schemas } from "./client";

export type GroupGraph = Schemas["GroupGraphResponse"];
export type ChoreGraph = Schemas["GraphResponse"];
type FailedGraph = Schemas["FailedGraphResponse"];
export type GraphNode = Schemas["GraphNodeResponse"];
export type GraphEdge = Schemas["GraphEdgeResponse"];
export type WholeWindow = Schemas["WindowResponse"];

/** Levels and ranks, each up to but without its end. */
export interface Places {
  level_from: number;
  level_to: number;
  rank_from: number;
  rank_to: number;
}

export function useGroupGraph(runId: string): UseQueryResult<GroupGraph> {
  return useQuery({
    queryKey: ["run", runId, "graph", "groups"],
    queryFn: ({ signal }) =>
      take(
        client.GET("/api/v1/runs/{run_id}/graph/groups", { params: { path: { run_id: runId } }, signal }),
      ),
  });
}

/** A chore with what is so many steps before and behind it. */
export function useNeighbourhood(
  runId: string,
  query: { chore: string; up: number; down: number; limit: number },
): UseQueryResult<ChoreGraph> {
  return useQuery({
    queryKey: ["run", runId, "graph", "neighbourhood", query],
    queryFn: ({ signal }) =>
      take(
        client.GET("/api/v1/runs/{run_id}/graph/neighbourhood", {
          params: { path: { run_id: runId }, query },
          signal,
        }),
      ),
    placeholderData: keepPreviousData,
  });
}

/** Failures with what is so many steps before them. */
export function useFailedGraph(
  runId: string,
  query: { up: number; limit: number },
): UseQueryResult<FailedGraph> {
  return useQuery({
    queryKey: ["run", runId, "graph", "failed", query],
    queryFn: ({ signal }) =>
      take(
        client.GET("/api/v1/runs/{run_id}/graph/failed", {
          params: { path: { run_id: runId }, query },
          signal,
        }),
      ),
    placeholderData: keepPreviousData,
  });
}

/** A window of the whole graph; null for all of it. */
export function useWholeGraph(
  runId: string,
  places: Places | null,
  limit: number,
): UseQueryResult<WholeWindow> {
  const query = { ...places, limit };
  return useQuery({
    queryKey: ["run", runId, "graph", "whole", query],
    queryFn: ({ signal }) =>
      take(
        client.GET("/api/v1/runs/{run_id}/graph/whole", {
          params: { path: { run_id: runId }, query },
          signal,
        }),
      ),
    placeholderData: keepPreviousData,
  });
}

/** The question who stands at a place of the whole graph. */
export function placeQuery(runId: string, level: number, rank: number) {
  return queryOptions({
    queryKey: ["run", runId, "graph", "at", level, rank],
    queryFn: async ({ signal }): Promise<ChoreRow> => {
      const answer = await take(
        client.GET("/api/v1/runs/{run_id}/graph/at", {
          params: { path: { run_id: runId }, query: { level, rank } },
          signal,
        }),
      );
      return answer.chore;
    },
  });
}

const MAX_NAMES = 10;

/** Ids of a few chores that have a text in their id; none for an empty text. */
export function useChoreNames(runId: string, text: string): readonly string[] {
  const { data = [] } = useQuery({
    queryKey: ["run", runId, "chores", "names", text],
    queryFn: async ({ signal }) => {
      // Without `format` it is no table.
      const page = (await take(
        client.GET("/api/v1/runs/{run_id}/chores", {
          params: { path: { run_id: runId }, query: { text, limit: MAX_NAMES } },
          signal,
        }),
      )) as Schemas["ChorePageResponse"];
      return page.chores.map(({ id }) => id);
    },
    enabled: text !== "",
    placeholderData: keepPreviousData,
  });
  return text === "" ? [] : data;
}
