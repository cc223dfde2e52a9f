/** Runs as data, and a server that answers with them. */
import { vi } from "vitest";

import type { Counts, RunStatus } from "../api/client";

export const NOW = Date.parse("2026-03-01T12:00:00Z");

export function makeCounts(parts: Partial<Counts> = {}): Counts {
  const counts = { pending: 0, running: 0, completed: 0, failed: 0, cancelled: 0, ...parts };
  const { pending, running, completed, failed, cancelled } = counts;
  return { ...counts, total: pending + running + completed + failed + cancelled };
}

/** A run of 1,000 chores in its second hour, with everything that a page can show. */
export function makeStatus(parts: Partial<RunStatus> = {}): RunStatus {
  return {
    format: 1,
    run: "matensemble_workflow-20260301_105551",
    state: "running",
    sequence: 4000,
    epoch: 1,
    beat: 40,
    counts: makeCounts({ pending: 480, running: 20, completed: 490, failed: 10 }),
    groups: {
      relax: makeCounts({ pending: 380, running: 20, completed: 490, failed: 5 }),
      fit: makeCounts({ pending: 100, failed: 5 }),
    },
    executor: "flux",
    num_nodes: 3,
    total_cores: 192,
    free_cores: 32,
    total_gpus: 0,
    free_gpus: 0,
    rate: 0.5,
    root_failures: [
      {
        chore_id: "chore-relax-0017",
        reason: "nonzero_exit",
        exit_code: 3,
        detail: "<b>lost atoms</b>",
      },
      { chore_id: "chore-relax-0042", reason: "exception", exit_code: null, detail: "KeyError: 'a'" },
    ],
    num_root_failures: 5,
    host: "node017",
    pid: 4711,
    started_at: "2026-03-01T10:55:51+00:00",
    updated_at: "2026-03-01T11:59:58+00:00",
    ended_at: null,
    ends_at: null,
    detail: "",
    ...parts,
  };
}

export function makeFinished(parts: Partial<RunStatus> = {}): RunStatus {
  return makeStatus({
    state: "completed",
    counts: makeCounts({ completed: 1000 }),
    groups: { relax: makeCounts({ completed: 895 }), fit: makeCounts({ completed: 105 }) },
    root_failures: [],
    num_root_failures: 0,
    ended_at: "2026-03-01T11:59:58+00:00",
    ...parts,
  });
}

export function answer(body: unknown, code = 200): Response {
  return new Response(JSON.stringify(body), {
    status: code,
    headers: { "content-type": "application/json", date: new Date(Date.now()).toUTCString() },
  });
}

/** Let each request be answered by the next of `answers`, the last one again and again. */
export function serve(...answers: (() => Response)[]) {
  const rest = [...answers];
  const server = vi.fn<(request: Request) => Promise<Response>>(() => {
    const next = rest.length > 1 ? rest.shift() : rest[0];
    return next === undefined
      ? Promise.reject(new TypeError("Failed to fetch"))
      : new Promise((resolve) => {
          resolve(next());
        });
  });
  vi.stubGlobal("fetch", server);
  return server;
}

export function refuseConnections(): never {
  throw new TypeError("Failed to fetch");
}
