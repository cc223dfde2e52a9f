/** One edge of a drawing, along the way that was found for it. */
import { BaseEdge, type Edge, type EdgeProps } from "@xyflow/react";

import { formatCount } from "../../lib/format";
import type { Corner } from "./arrange";
import { wayPath } from "./wayPath";

interface FlowWayData extends Record<string, unknown> {
  corners: readonly Corner[];
  /** The middle of its text; null for none. */
  label: Corner | null;
  count: number;
}
export type FlowWayType = Edge<FlowWayData, "way">;

export function FlowWay({ data, markerEnd }: EdgeProps<FlowWayType>) {
  if (data === undefined) {
    return null;
  }
  return (
    <>
      <BaseEdge path={wayPath(data.corners)} interactionWidth={0} {...(markerEnd === undefined ? {} : { markerEnd })} />
      {data.label !== null && (
        <text className="flow-count" x={data.label.x} y={data.label.y} textAnchor="middle" dominantBaseline="central">
          {formatCount(data.count)}
        </text>
      )}
    </>
  );
}
