/** Parts of a graph as data. */
import type { ChoreGraph, GraphNode, GroupGraph, WholeWindow } from "../api/useGraph";

const FRESH = { is_complete: true, share: 1, problem: "" };
const STATES = [
  "blocked", "ready", "submitted", "running", "completed", "failed", "cancelled", "skipped",
] as const;

export function makeNode(parts: Partial<GraphNode> = {}): GraphNode {
  return {
    kind: "chore",
    id: "chore-md-0001",
    name: "md",
    state: "completed",
    states: {},
    level: 0,
    num_upstream: 0,
    num_downstream: 0,
    ...parts,
  };
}

/** relax → md → a group that is gathered, of which md is one of two gatherers' upstream. */
export function makeChoreGraph(parts: Partial<ChoreGraph> = {}): ChoreGraph {
  return {
    nodes: [
      makeNode({ id: "chore-md-0001", num_upstream: 1, num_downstream: 3 }),
      makeNode({ id: "chore-relax-0001", name: "relax", state: "failed", num_downstream: 8 }),
      makeNode({ kind: "group", id: null, name: "fit", state: null, level: null, states: { completed: 3, failed: 1 } }),
    ],
    edges: [
      { upstream: 1, downstream: 0, num_connections: 1 },
      { upstream: 0, downstream: 2, num_connections: 1 },
    ],
    num_left_out: 0,
    num_edges_left_out: 0,
    freshness: FRESH,
    ...parts,
  };
}

export function makeGroupGraph(parts: Partial<GroupGraph> = {}): GroupGraph {
  return {
    groups: [
      { name: "relax", total: 1000, states: { completed: 990, failed: 10 } },
      { name: "md", total: 1000, states: { completed: 900, blocked: 80, skipped: 20 } },
    ],
    edges: [{ upstream: 0, downstream: 1, num_connections: 1000 }],
    num_left_out: 0,
    num_edges_left_out: 0,
    freshness: FRESH,
    ...parts,
  };
}

export function makeWindow(parts: Partial<WholeWindow> = {}): WholeWindow {
  return {
    num_levels: 2,
    num_ranks: 2,
    level_from: 0,
    level_to: 2,
    rank_from: 0,
    rank_to: 2,
    num_chores: 3,
    mode: "chores",
    states: [...STATES],
    points: { level: [0, 1, 1], rank: [0, 0, 1], state: [4, 4, 5] },
    lines: { upstream: [0, 0], downstream: [1, 2] },
    num_lines_left_out: 0,
    num_gathers_left_out: 0,
    cells: null,
    freshness: FRESH,
    ...parts,
  };
}
