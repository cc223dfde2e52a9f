/** Draws lanes on a canvas. What each colour means is said by shape too. */
import { paintCross, type Palette } from "../../lib/canvas";
import {
  endOf,
  MIN_BAR_WIDTH,
  type Bar,
  type PlacedLane,
  type TimeScale,
  type Timeline,
} from "./laneLayout";
import type { Tick } from "./timeTicks";

interface Scene {
  timeline: Timeline;
  lanes: readonly PlacedLane[];
  scale: TimeScale;
  ticks: readonly Tick[];
  width: number;
  height: number;
  /** Most attempts at once, for the height of what is drawn of a bin. */
  peak: number;
  /** Stretch that is being marked, in pixels. */
  marked: readonly [number, number] | null;
  palette: Palette;
}

/** Below this many pixels a shape inside a bar would only be noise. */
const MIN_SHAPE = 7;
const FAILURE_HEIGHT = 5;

export function paintTimeline(pencil: CanvasRenderingContext2D, scene: Scene): void {
  const { timeline, lanes, scale, ticks, width, height, palette } = scene;
  pencil.strokeStyle = palette.line;
  pencil.lineWidth = 1;
  for (const { at } of ticks) {
    strokeLine(pencil, Math.round(scale.xOf(at)) + 0.5, 0, height);
  }
  for (const placed of lanes) {
    pencil.fillStyle = palette.line;
    pencil.fillRect(0, Math.round(placed.top + placed.height + 2), width, 1);
    if (timeline.mode === "bars") {
      paintBars(pencil, scene, placed);
    } else {
      paintBins(pencil, scene, placed);
    }
  }
  if (timeline.run.is_growing) {
    pencil.strokeStyle = palette.accent;
    pencil.setLineDash([4, 3]);
    strokeLine(pencil, scale.xOf(timeline.run.end), 0, height);
    pencil.setLineDash([]);
  }
  if (scene.marked !== null) {
    paintMark(pencil, scene, scene.marked);
  }
}

function paintBars(pencil: CanvasRenderingContext2D, scene: Scene, placed: PlacedLane): void {
  const { timeline, scale, width } = scene;
  const gap = placed.rowHeight >= 4 ? 1 : 0;
  for (const bar of placed.lane.bars) {
    const left = Math.max(-2, scale.xOf(bar.started_at));
    const right = Math.min(width + 2, Math.max(left + MIN_BAR_WIDTH, scale.xOf(endOf(bar, timeline))));
    if (right < 0 || left > width) {
      continue;
    }
    const top = placed.top + bar.row * placed.rowHeight;
    paintBar(pencil, scene, bar, {
      left,
      top,
      width: Math.max(MIN_BAR_WIDTH, right - left - (right - left > 4 ? 1 : 0)),
      height: Math.max(0.75, placed.rowHeight - gap),
    });
  }
}

interface Box {
  left: number;
  top: number;
  width: number;
  height: number;
}

function paintBar(pencil: CanvasRenderingContext2D, { palette }: Scene, bar: Bar, box: Box): void {
  const { left, top, width, height } = box;
  pencil.fillStyle = palette.states[bar.state];
  pencil.strokeStyle = palette.states[bar.state];
  pencil.lineWidth = 1;
  const hasShape = width >= MIN_SHAPE && height >= 5;
  if (bar.state === "cancelled" && hasShape) {
    pencil.strokeRect(left + 0.5, top + 0.5, width - 1, height - 1);
    return;
  }
  pencil.fillRect(left, top, width, height);
  if (!hasShape) {
    return;
  }
  if (bar.state === "failed") {
    paintFailure(pencil, palette, box);
  } else if (bar.state === "running") {
    paintArrow(pencil, palette, box);
  }
}

/** At the end of the bar, where it failed. */
function paintFailure(pencil: CanvasRenderingContext2D, palette: Palette, box: Box): void {
  const arm = Math.min(box.height, 10) / 2 - 1;
  paintCross(pencil, palette.ground, box.left + box.width - arm - 2, box.top + box.height / 2, arm);
}

/** What goes on points to the right. */
function paintArrow(pencil: CanvasRenderingContext2D, palette: Palette, box: Box): void {
  const right = box.left + box.width;
  const depth = Math.min(box.height / 2, 5);
  pencil.fillStyle = palette.ground;
  pencil.beginPath();
  pencil.moveTo(right - depth, box.top);
  pencil.lineTo(right, box.top);
  pencil.lineTo(right, box.top + box.height);
  pencil.lineTo(right - depth, box.top + box.height);
  pencil.lineTo(right, box.top + box.height / 2);
  pencil.fill();
}

/** How many ran as the height of an area, failures as marks on its ground. */
function paintBins(pencil: CanvasRenderingContext2D, scene: Scene, placed: PlacedLane): void {
  const { timeline, scale, peak, palette, width } = scene;
  const seconds = timeline.bin_seconds ?? 1;
  const bottom = placed.top + placed.height;
  timeline.at.forEach((at, bin) => {
    // Whole pixels, so that no seam shows between bins.
    const left = Math.round(scale.xOf(at));
    const right = Math.round(scale.xOf(at + seconds));
    if (right < 0 || left > width) {
      return;
    }
    const binWidth = Math.max(1, right - left);
    const running = placed.lane.running[bin] ?? 0;
    if (running > 0) {
      const height = Math.max(1.5, (placed.height * running) / peak);
      pencil.fillStyle = palette.states.running;
      pencil.fillRect(left, bottom - height, binWidth, height);
    }
    if ((placed.lane.failed[bin] ?? 0) > 0) {
      pencil.fillStyle = palette.ground;
      pencil.fillRect(left - 1, bottom - FAILURE_HEIGHT - 1, Math.max(2, binWidth) + 2, FAILURE_HEIGHT + 1);
      pencil.fillStyle = palette.states.failed;
      pencil.fillRect(left, bottom - FAILURE_HEIGHT, Math.max(2, binWidth), FAILURE_HEIGHT);
    }
  });
}

function paintMark(
  pencil: CanvasRenderingContext2D,
  { palette, height }: Scene,
  [from, to]: readonly [number, number],
): void {
  pencil.globalAlpha = 0.2;
  pencil.fillStyle = palette.accent;
  pencil.fillRect(Math.min(from, to), 0, Math.abs(to - from), height);
  pencil.globalAlpha = 1;
}

function strokeLine(pencil: CanvasRenderingContext2D, x: number, top: number, bottom: number): void {
  pencil.beginPath();
  pencil.moveTo(x, top);
  pencil.lineTo(x, bottom);
  pencil.stroke();
}
