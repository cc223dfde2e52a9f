/** What answers about the graph become in a drawing: nodes with a name, a state and an address. */
import type { ChoreGraph, GraphEdge, GraphNode, GroupGraph } from "../../api/useGraph";
import type { ChoreState } from "../../api/client";
import { choreAddress, choresAddress } from "../../lib/choreAddress";
import { formatCount, formatQuantity } from "../../lib/format";
import type { Link } from "./arrange";

export interface FlowItem {
  id: string;
  kind: GraphNode["kind"];
  title: string;
  /** Where its link leads. */
  address: string;
  /** Of a chore. */
  state: ChoreState | null;
  /** Of what stands for many: how many are where. */
  states: Readonly<Partial<Record<ChoreState, number>>>;
  /** Where its failed chores are listed; null where none failed. */
  failedAddress: string | null;
  /** Direct connections that are not drawn. */
  moreUpstream: number;
  moreDownstream: number;
  width: number;
  height: number;
}

interface FlowEdge extends Link {
  /** How many connections it stands for, from 1. */
  count: number;
}

export interface Flow {
  items: readonly FlowItem[];
  edges: readonly FlowEdge[];
}

const MANY_SIZE = { width: 216, height: 62 };
const CHORE_SIZE = { width: 216, height: 30 };
const DIGIT_PIXELS = 7.5;

export function flowOfGroups(runId: string, graph: GroupGraph): Flow {
  const items = graph.groups.map(
    ({ name, states }, place): FlowItem => ({
      id: String(place),
      kind: "group",
      title: name,
      address: choresAddress(runId, { group: name }),
      state: null,
      states,
      failedAddress: failedAddress(runId, name, states),
      moreUpstream: 0,
      moreDownstream: 0,
      ...MANY_SIZE,
    }),
  );
  return { items, edges: edgesOf(items, graph.edges, true) };
}

/** Nodes are named by what they stand for, so that they stay the same while one goes along. */
export function flowOfChores(runId: string, graph: ChoreGraph): Flow {
  const drawn = countDrawn(graph);
  const items = graph.nodes.map((node, place): FlowItem => {
    const isChore = node.kind === "chore";
    return {
      id: `${node.kind} ${node.id ?? node.name ?? ""}`,
      kind: node.kind,
      title: titleOf(node),
      address: addressOf(runId, node),
      state: node.state,
      states: node.states,
      failedAddress: node.kind === "group" ? failedAddress(runId, node.name ?? "", node.states) : null,
      moreUpstream: isChore ? Math.max(0, node.num_upstream - (drawn[place]?.upstream ?? 0)) : 0,
      moreDownstream: isChore ? Math.max(0, node.num_downstream - (drawn[place]?.downstream ?? 0)) : 0,
      ...(isChore ? CHORE_SIZE : MANY_SIZE),
    };
  });
  return { items, edges: edgesOf(items, graph.edges, false) };
}

/** How many chores a node stands for. */
export function totalOf({ states }: FlowItem): number {
  return Object.values(states).reduce((sum, count) => sum + count, 0);
}

/** What is the same as long as the same nodes are connected alike. */
export function shapeOf({ items, edges }: Flow): string {
  return JSON.stringify([
    items.map(({ id }) => id),
    edges.map(({ source, target, labelWidth }) => [source, target, labelWidth]),
  ]);
}

function edgesOf(items: readonly FlowItem[], edges: readonly GraphEdge[], isCounted: boolean): FlowEdge[] {
  return edges.flatMap(({ upstream, downstream, num_connections: count }) => {
    const [source, target] = [items[upstream]?.id, items[downstream]?.id];
    if (source === undefined || target === undefined) {
      return [];
    }
    const labelWidth = isCounted ? formatCount(count).length * DIGIT_PIXELS + 8 : 0;
    return [{ id: `${source} > ${target}`, source, target, count, labelWidth }];
  });
}

/** Count for each node what of its connections is drawn, as its totals count them. */
function countDrawn({ nodes, edges }: ChoreGraph): { upstream: number; downstream: number }[] {
  const counts = nodes.map(() => ({ upstream: 0, downstream: 0 }));
  const isGroup = (place: number) => nodes[place]?.kind === "group";
  const gatherers = countBy(edges.filter(({ upstream }) => isGroup(upstream)).map(({ upstream }) => upstream));
  for (const { upstream, downstream } of edges) {
    const [before, after] = [counts[upstream], counts[downstream]];
    if (before !== undefined && after !== undefined) {
      after.upstream += 1;
      // A chore of a gathered group leads to whatever gathers the group.
      before.downstream += isGroup(downstream) ? (gatherers.get(downstream) ?? 0) : 1;
    }
  }
  return counts;
}

function countBy(places: readonly number[]): ReadonlyMap<number, number> {
  const counts = new Map<number, number>();
  for (const place of places) {
    counts.set(place, (counts.get(place) ?? 0) + 1);
  }
  return counts;
}

function titleOf({ kind, id, name, states }: GraphNode): string {
  if (kind === "chore") {
    return id ?? "";
  }
  return kind === "group" ? (name ?? "") : `${formatQuantity(states.skipped ?? 0, "chore")} skipped`;
}

function addressOf(runId: string, { kind, id, name }: GraphNode): string {
  if (kind === "chore") {
    return choreAddress(runId, id ?? "");
  }
  return kind === "group"
    ? choresAddress(runId, { group: name ?? "" })
    : choresAddress(runId, { state: "skipped", ...(name === null ? {} : { group: name }) });
}

function failedAddress(runId: string, group: string, states: FlowItem["states"]): string | null {
  return (states.failed ?? 0) > 0 ? choresAddress(runId, { group, state: "failed" }) : null;
}
