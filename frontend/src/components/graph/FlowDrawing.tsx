/** Draws nodes that are links, and what connects them. The numbers stand in a table beside it. */
import {
  Controls,
  MarkerType,
  ReactFlow,
  ReactFlowProvider,
  useReactFlow,
  useStoreApi,
  type EdgeTypes,
  type NodeTypes,
} from "@xyflow/react";
import "@xyflow/react/dist/base.css";
import { useEffect, useMemo, useRef, useState } from "react";

import { useSize } from "../../lib/canvas";
import { Notice } from "../Notice";
import type { Arrangement } from "./arrange";
import "./FlowDrawing.css";
import type { Flow, FlowItem } from "./flowItem";
import { FlowNode, type FlowNodeType } from "./FlowNode";
import { FlowWay, type FlowWayType } from "./FlowWay";
import { useArrangement } from "./useArrangement";
import { viewportFor } from "./viewport";

const NODE_TYPES: NodeTypes = { item: FlowNode };
const EDGE_TYPES: EdgeTypes = { way: FlowWay };
const MIN_ZOOM = 0.05;
const MAX_ZOOM = 2;
const MARGIN = 80;

interface FlowDrawingProps {
  label: string;
  flow: Flow;
  /** What the drawing is about. */
  focus: string | null;
  /** What a click by pointer on a chore does; null where it opens it. */
  onPick: ((item: FlowItem) => void) | null;
}

export function FlowDrawing(props: FlowDrawingProps) {
  return (
    <ReactFlowProvider>
      <ArrangedFlow {...props} />
    </ReactFlowProvider>
  );
}

function ArrangedFlow({ label, flow: wanted, focus, onPick }: FlowDrawingProps) {
  const { flow, arrangement, isArranging, error } = useArrangement(wanted);
  const [screen, setScreen] = useState<HTMLDivElement | null>(null);
  useFirstLook(screen, arrangement, focus);
  const reveal = useReveal(screen, arrangement);
  const nodes = useMemo(
    () => (flow === null || arrangement === null ? [] : drawNodes(flow, arrangement, focus, onPick, reveal)),
    [flow, arrangement, focus, onPick, reveal],
  );
  const edges = useMemo(
    () => (flow === null || arrangement === null ? [] : drawEdges(flow, arrangement)),
    [flow, arrangement],
  );
  if (error !== null) {
    return (
      <Notice tone="caution" title="The drawing could not be arranged">
        <p>{error.message}. The table below says the same.</p>
      </Notice>
    );
  }
  return (
    <div className="flow" ref={setScreen} style={arrangement === null ? {} : { height: arrangement.height + MARGIN }}>
      <ReactFlow<FlowNodeType, FlowWayType>
        aria-label={label}
        nodes={nodes}
        edges={edges}
        nodeTypes={NODE_TYPES}
        edgeTypes={EDGE_TYPES}
        minZoom={MIN_ZOOM}
        maxZoom={MAX_ZOOM}
        nodesDraggable={false}
        nodesConnectable={false}
        nodesFocusable={false}
        edgesFocusable={false}
        elementsSelectable={false}
        zoomOnDoubleClick={false}
        disableKeyboardA11y
        defaultMarkerColor={null}
      >
        <Controls showInteractive={false} position="top-right" orientation="horizontal" />
      </ReactFlow>
      {isArranging && (
        <p className="flow-status" role="status">
          Arranging…
        </p>
      )}
    </div>
  );
}

/** Look at a new arrangement as a whole, or at what it is about. */
function useFirstLook(
  screen: HTMLDivElement | null,
  arrangement: Arrangement | null,
  focus: string | null,
): void {
  const { setViewport } = useReactFlow();
  const { width, height } = useSize(screen);
  const seen = useRef<Arrangement>(null);
  useEffect(() => {
    if (arrangement !== null && width > 0 && height > 0 && seen.current !== arrangement) {
      seen.current = arrangement;
      const corner = focus === null ? null : (arrangement.boxes.get(focus) ?? null);
      void setViewport(viewportFor(arrangement, { width, height }, corner));
    }
  }, [arrangement, focus, width, height, setViewport]);
}

/** Return what brings a node into view: the browser would scroll to a link, which moves nothing here. */
function useReveal(screen: HTMLDivElement | null, arrangement: Arrangement | null) {
  const { setCenter } = useReactFlow();
  const store = useStoreApi();
  return useMemo(
    () => (item: FlowItem) => {
      const corner = arrangement?.boxes.get(item.id);
      if (corner === undefined || screen === null) {
        return;
      }
      const [x, y, zoom] = store.getState().transform;
      const left = corner.x * zoom + x;
      const top = corner.y * zoom + y;
      const isSeen =
        left >= 0 &&
        top >= 0 &&
        left + item.width * zoom <= screen.clientWidth &&
        top + item.height * zoom <= screen.clientHeight;
      if (!isSeen) {
        void setCenter(corner.x + item.width / 2, corner.y + item.height / 2, { zoom });
      }
    },
    [arrangement, screen, setCenter, store],
  );
}

function drawNodes(
  { items }: Flow,
  { boxes }: Arrangement,
  focus: string | null,
  onPick: FlowDrawingProps["onPick"],
  reveal: (item: FlowItem) => void,
): FlowNodeType[] {
  return items.map((item) => {
    const { id, width, height } = item;
    const isFocus = id === focus;
    return {
      id,
      type: "item",
      position: boxes.get(id) ?? { x: 0, y: 0 },
      width,
      height,
      ariaRole: "group",
      ariaLabel: item.title,
      data: {
        item,
        isFocus,
        onPick:
          onPick === null || isFocus || item.kind !== "chore"
            ? null
            : () => {
                onPick(item);
              },
        onFocus: () => {
          reveal(item);
        },
      },
    };
  });
}

function drawEdges({ items, edges }: Flow, { links }: Arrangement): FlowWayType[] {
  const titles = new Map(items.map(({ id, title }) => [id, title]));
  return edges.map(({ id, source, target, count }) => ({
    id,
    type: "way",
    source,
    target,
    ariaLabel: `${titles.get(target) ?? ""} after ${titles.get(source) ?? ""}`,
    markerEnd: { type: MarkerType.ArrowClosed, width: 14, height: 14 },
    data: { corners: links.get(id)?.corners ?? [], label: links.get(id)?.label ?? null, count },
  }));
}
