/**
 * Finds places for nodes and ways for edges, from left to right, in a worker of its own.
 *
 * Only this module knows ELK. What it takes and gives are plain numbers.
 */
import type { ELK, ElkExtendedEdge, ElkNode } from "elkjs/lib/elk-api";
import ElkApi from "elkjs/lib/elk-api";

export interface Box {
  id: string;
  width: number;
  height: number;
}

export interface Link {
  id: string;
  source: string;
  target: string;
  /** Room for text on it, in pixels; 0 for none. */
  labelWidth: number;
}

export interface Corner {
  x: number;
  y: number;
}

/** Where everything stands, in pixels from the upper left corner. */
export interface Arrangement {
  width: number;
  height: number;
  boxes: ReadonlyMap<string, Corner>;
  links: ReadonlyMap<string, { corners: readonly Corner[]; label: Corner | null }>;
}

const LABEL_HEIGHT = 16;
const OPTIONS = {
  "elk.algorithm": "layered",
  "elk.direction": "RIGHT",
  "elk.edgeRouting": "ORTHOGONAL",
  "elk.layered.spacing.nodeNodeBetweenLayers": "56",
  "elk.layered.spacing.edgeNodeBetweenLayers": "16",
  "elk.spacing.nodeNode": "14",
  "elk.spacing.componentComponent": "24",
  "elk.layered.nodePlacement.strategy": "BRANDES_KOEPF",
  "elk.layered.nodePlacement.bk.fixedAlignment": "BALANCED",
  "elk.layered.considerModelOrder.strategy": "NODES_AND_EDGES",
};

let elk: ELK | null = null;

/** Return an arrangement. The worker is begun with the first and stays: it takes a second to load. */
export async function arrange(boxes: readonly Box[], links: readonly Link[]): Promise<Arrangement> {
  elk ??= new ElkApi({
    workerFactory: () =>
      new Worker(new URL("./arrange.worker.ts", import.meta.url), { type: "module" }),
  });
  const graph: ElkNode = {
    id: "graph",
    layoutOptions: OPTIONS,
    children: boxes.map((box) => ({ ...box })),
    edges: links.map(({ id, source, target, labelWidth }) => ({
      id,
      sources: [source],
      targets: [target],
      labels: labelWidth === 0 ? [] : [{ text: id, width: labelWidth, height: LABEL_HEIGHT }],
    })),
  };
  return read(await elk.layout(graph));
}

function read({ width = 0, height = 0, children = [], edges = [] }: ElkNode): Arrangement {
  return {
    width,
    height,
    boxes: new Map(children.map(({ id, x = 0, y = 0 }) => [id, { x, y }])),
    links: new Map(edges.map((edge) => [edge.id, wayOf(edge)])),
  };
}

function wayOf({ sections = [], labels = [] }: ElkExtendedEdge) {
  const corners = sections.flatMap(({ startPoint, bendPoints = [], endPoint }) => [
    startPoint,
    ...bendPoints,
    endPoint,
  ]);
  const label = labels[0];
  return {
    corners,
    label:
      label === undefined
        ? null
        : { x: (label.x ?? 0) + (label.width ?? 0) / 2, y: (label.y ?? 0) + LABEL_HEIGHT / 2 },
  };
}
