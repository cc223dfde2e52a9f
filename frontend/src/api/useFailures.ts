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

const LOOKED_AT = 200;

/** On which nodes the first chores of a cluster failed. */
interface FailureHosts {
  /** Name of the node, empty where it is not known, and how many failed there; most first. */
  hosts: [string, number][];
  lookedAt: number;
  total: number;
}

export function useFailureHosts(runId: string, cluster: number): UseQueryResult<FailureHosts> {
  return useQuery({
    queryKey: ["run", runId, "failureHosts", cluster],
    queryFn: async ({ signal }) => {
      const query = { cluster, state: "failed", limit: LOOKED_AT } as const;
      const params = { path: { run_id: runId }, query };
      const page = await take(
        client.GET("/api/v1/runs/{run_id}/chores", { params, parseAs: "json", signal }),
      );
      return countHosts(page as Schemas["ChorePageResponse"]);
    },
  });
}

function countHosts({ chores, total }: Schemas["ChorePageResponse"]): FailureHosts {
  const counts = new Map<string, number>();
  for (const { host } of chores) {
    counts.set(host, (counts.get(host) ?? 0) + 1);
  }
  const hosts = [...counts].sort(([, a], [, b]) => b - a);
  return { hosts, lookedAt: chores.length, total };
}
