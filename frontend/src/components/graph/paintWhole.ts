/** Draws a window of the whole graph: chores and their connections, or cells that count them. */
import type { WholeWindow } from "../../api/useGraph";
import type { ChoreState } from "../../api/client";
import { paintCross, type Palette, type Size } from "../../lib/canvas";
import type { View } from "./wholeView";

/** From top to bottom of a cell. */
const STACK: readonly ChoreState[] = [
  "failed", "skipped", "cancelled", "completed", "running", "submitted", "ready", "blocked",
];
/** A mark beside a cell with failures, which are seen even where they are one in a million. */
const MARK_SHARE = 0.12;
const MIN_MARK = 2;
const MAX_NODE = 14;
const MIN_SHAPE = 7;
const LINE_ALPHA = 0.35;

export function paintWhole(
  pencil: CanvasRenderingContext2D,
  window: WholeWindow,
  view: View,
  size: Size,
  palette: Palette,
): void {
  if (window.cells !== null) {
    paintCells(pencil, window.cells, view, size, palette);
  }
  if (window.points !== null) {
    paintLines(pencil, window, view, palette);
    paintPoints(pencil, window, view, size, palette);
  }
}

/** The frame around a place, or around what another view shows. */
export function paintFrame(
  pencil: CanvasRenderingContext2D,
  view: View,
  frame: { level: number; rank: number; levels: number; ranks: number },
  palette: Palette,
): void {
  pencil.strokeStyle = palette.accent;
  pencil.lineWidth = 2;
  const width = Math.max(4, frame.levels * view.perLevel);
  const height = Math.max(4, frame.ranks * view.perRank);
  pencil.strokeRect((frame.level - view.level) * view.perLevel, (frame.rank - view.rank) * view.perRank, width, height);
}

interface Box {
  left: number;
  top: number;
  width: number;
  height: number;
}

function paintCells(
  pencil: CanvasRenderingContext2D,
  cells: NonNullable<WholeWindow["cells"]>,
  view: View,
  size: Size,
  palette: Palette,
): void {
  const marks: Box[] = [];
  cells.level.forEach((level, index) => {
    const left = Math.floor((level - view.level) * view.perLevel);
    const top = ((cells.rank[index] ?? 0) - view.rank) * view.perRank;
    const width = Math.max(1, Math.ceil((level + cells.num_levels - view.level) * view.perLevel) - left);
    const height = Math.max(1, cells.num_ranks * view.perRank);
    if (left + width < 0 || left > size.width || top + height < 0 || top > size.height) {
      return;
    }
    paintCell(pencil, cells, index, { left, top, width, height }, palette);
    if ((cells.counts.failed?.[index] ?? 0) > 0) {
      marks.push({ left, top, width: Math.max(MIN_MARK, width * MARK_SHARE), height: Math.max(MIN_MARK, height) });
    }
  });
  // Last, so that no cell covers them.
  pencil.fillStyle = palette.states.failed;
  for (const { left, top, width, height } of marks) {
    pencil.fillRect(left, top, width, height);
  }
}

function paintCell(
  pencil: CanvasRenderingContext2D,
  cells: NonNullable<WholeWindow["cells"]>,
  index: number,
  { left, top, width, height }: Box,
  palette: Palette,
): void {
  const counts = STACK.map((state) => cells.counts[state]?.[index] ?? 0);
  const total = counts.reduce((a, b) => a + b, 0);
  // What is less than full is lower, so that the outline of the graph can be seen.
  const filled = Math.max(1, height * Math.min(1, total / (cells.num_levels * cells.num_ranks)));
  let y = top;
  STACK.forEach((state, place) => {
    const share = (filled * (counts[place] ?? 0)) / Math.max(1, total);
    if (share > 0) {
      pencil.fillStyle = palette.states[state];
      pencil.fillRect(left, y, width, share);
      y += share;
    }
  });
}

function nodeSize({ perLevel, perRank }: View): number {
  return Math.max(1.5, Math.min(MAX_NODE, perLevel * 0.7, perRank * 0.7));
}

function paintLines(pencil: CanvasRenderingContext2D, { points, lines }: WholeWindow, view: View, palette: Palette): void {
  if (points === null || lines === null) {
    return;
  }
  const half = nodeSize(view) / 2;
  const xOf = (index: number) => ((points.level[index] ?? 0) + 0.5 - view.level) * view.perLevel;
  const yOf = (index: number) => ((points.rank[index] ?? 0) + 0.5 - view.rank) * view.perRank;
  pencil.strokeStyle = palette.inkSoft;
  pencil.globalAlpha = LINE_ALPHA;
  pencil.lineWidth = 1;
  pencil.beginPath();
  lines.upstream.forEach((from, line) => {
    const to = lines.downstream[line] ?? from;
    const [x1, y1, x2, y2] = [xOf(from) + half, yOf(from), xOf(to) - half, yOf(to)];
    const bend = (x2 - x1) / 2;
    pencil.moveTo(x1, y1);
    pencil.bezierCurveTo(x1 + bend, y1, x2 - bend, y2, x2, y2);
  });
  pencil.stroke();
  pencil.globalAlpha = 1;
}

function paintPoints(
  pencil: CanvasRenderingContext2D,
  { points, states }: WholeWindow,
  view: View,
  size: Size,
  palette: Palette,
): void {
  const side = nodeSize(view);
  points?.level.forEach((level, index) => {
    const x = (level + 0.5 - view.level) * view.perLevel;
    const y = ((points.rank[index] ?? 0) + 0.5 - view.rank) * view.perRank;
    if (x < -side || y < -side || x > size.width + side || y > size.height + side) {
      return;
    }
    const state = states[points.state[index] ?? 0] ?? "blocked";
    pencil.fillStyle = palette.states[state];
    pencil.fillRect(x - side / 2, y - side / 2, side, side);
    if (side >= MIN_SHAPE) {
      paintShape(pencil, state, x, y, side / 2, palette);
    }
  });
}

/** What beside the colour tells the state: a cross, a frame, a hole. */
function paintShape(
  pencil: CanvasRenderingContext2D,
  state: ChoreState,
  x: number,
  y: number,
  half: number,
  palette: Palette,
): void {
  if (state === "failed") {
    paintCross(pencil, palette.ground, x, y, half * 0.55);
  } else if (state === "skipped" || state === "cancelled") {
    pencil.fillStyle = palette.ground;
    pencil.fillRect(x - half * 0.4, y - half * 0.4, half * 0.8, half * 0.8);
  } else if (state !== "completed" && state !== "running") {
    pencil.strokeStyle = palette.inkSoft;
    pencil.lineWidth = 1;
    pencil.strokeRect(x - half + 0.5, y - half + 0.5, 2 * half - 1, 2 * half - 1);
  }
}
