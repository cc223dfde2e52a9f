/** Where lanes and their bars stand on the canvas, and what stands at a point of it. Pure. */
import type { Schemas } from "../../api/client";
import { spanOf, type TimeWindow } from "./timeWindow";

export type Timeline = Schemas["TimelineResponse"];
export type Lane = Schemas["LaneResponse"];
export type Bar = Schemas["BarResponse"];

/** A lane on the canvas, in pixels. */
export interface PlacedLane {
  lane: Lane;
  top: number;
  height: number;
  /** Of one row of bars; may be a part of a pixel. */
  rowHeight: number;
}

/** What is at a point. */
export type Found =
  | { kind: "bar"; lane: Lane; bar: Bar }
  | { kind: "bin"; lane: Lane; bin: number };

const LANE_GAP = 6;
export const MIN_LANE_HEIGHT = 22;
const MAX_ROW_HEIGHT = 16;
const MAX_LANE_HEIGHT = 220;
const OCCUPANCY_HEIGHT = 34;
/** Of all lanes together, about: a canvas of more is slow to draw and long to scroll. */
const MAX_HEIGHT = 3_000;
/** A bar that is thinner is hard to hit, so it is found this far around it, too. */
const REACH = 3;
/** Bars are drawn no thinner. */
export const MIN_BAR_WIDTH = 1.5;

export function placeLanes(timeline: Timeline): PlacedLane[] {
  const most = Math.max(
    MIN_LANE_HEIGHT,
    Math.min(MAX_LANE_HEIGHT, MAX_HEIGHT / Math.max(1, timeline.lanes.length)),
  );
  let top = LANE_GAP;
  return timeline.lanes.map((lane) => {
    const rows = Math.max(1, lane.num_rows);
    const rowHeight = Math.min(MAX_ROW_HEIGHT, most / rows);
    const height =
      timeline.mode === "bars" ? Math.max(MIN_LANE_HEIGHT, rows * rowHeight) : Math.min(most, OCCUPANCY_HEIGHT);
    const placed = { lane, top, height, rowHeight };
    top += height + LANE_GAP;
    return placed;
  });
}

export function heightOf(lanes: readonly PlacedLane[]): number {
  const last = lanes.at(-1);
  return last === undefined ? 0 : last.top + last.height + LANE_GAP;
}

/** Seconds since the Unix epoch to pixels from the left, and back. */
export interface TimeScale {
  xOf: (second: number) => number;
  secondOf: (x: number) => number;
}

export function scaleOf(window: TimeWindow, width: number): TimeScale {
  const pixels = width / spanOf(window);
  return {
    xOf: (second) => (second - window.start) * pixels,
    secondOf: (x) => window.start + x / pixels,
  };
}

/** Until when a bar is drawn: what still runs reaches to the end of what is known. */
export function endOf(bar: Bar, timeline: Timeline): number {
  return bar.ended_at ?? Math.max(bar.started_at, timeline.run.end);
}

/** Return the most attempts that ran at once in a bin, over all lanes; 0 where nothing ran. */
export function peakOf(timeline: Timeline): number {
  return timeline.lanes.reduce((most, lane) => lane.running.reduce((a, b) => Math.max(a, b), most), 0);
}

/** Return what stands at a point of the canvas, or null where nothing does. */
export function findAt(
  timeline: Timeline,
  lanes: readonly PlacedLane[],
  scale: TimeScale,
  x: number,
  y: number,
): Found | null {
  const placed = lanes.find(({ top, height }) => y >= top && y < top + height);
  if (placed === undefined) {
    return null;
  }
  return timeline.mode === "bars"
    ? findBar(timeline, placed, scale, x, y)
    : findBin(timeline, placed, scale.secondOf(x));
}

function findBar(
  timeline: Timeline,
  { lane, top, rowHeight }: PlacedLane,
  { xOf }: TimeScale,
  x: number,
  y: number,
): Found | null {
  const row = Math.min(Math.max(0, lane.num_rows - 1), Math.floor((y - top) / rowHeight));
  let nearest: Bar | null = null;
  let least = REACH;
  for (const bar of lane.bars) {
    if (Math.abs(bar.row - row) * rowHeight > REACH && bar.row !== row) {
      continue;
    }
    const left = xOf(bar.started_at);
    const right = Math.max(left + MIN_BAR_WIDTH, xOf(endOf(bar, timeline)));
    const distance = Math.max(left - x, x - right, 0) + Math.abs(bar.row - row) * rowHeight;
    if (distance < least) {
      nearest = bar;
      least = distance;
    }
  }
  return nearest === null ? null : { kind: "bar", lane, bar: nearest };
}

function findBin({ at, bin_seconds }: Timeline, { lane }: PlacedLane, second: number): Found | null {
  const first = at[0];
  if (first === undefined || bin_seconds === null) {
    return null;
  }
  const bin = Math.floor((second - first) / bin_seconds);
  return lane.running[bin] === undefined ? null : { kind: "bin", lane, bin };
}
