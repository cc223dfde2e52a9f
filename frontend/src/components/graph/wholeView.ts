/** Looking at the whole graph: which part of it is on the screen, and what stands where. Pure. */
import type { Places, WholeWindow } from "../../api/useGraph";
import type { Size } from "../../lib/canvas";
import type { Point } from "../../lib/gestures";

/** A part of the graph on the screen. Levels go to the right, ranks down; each place is one by one. */
export interface View {
  /** The place in the upper left corner. */
  level: number;
  rank: number;
  /** Pixels a level and a rank. */
  perLevel: number;
  perRank: number;
}

export interface Extent {
  numLevels: number;
  numRanks: number;
}

/** What stands at a point, by its place in the columns of the answer. */
export interface Standing {
  kind: "chore" | "cell";
  index: number;
}

const MAX_PER_LEVEL = 120;
const MAX_PER_RANK = 32;
/** What is small need not fill the screen. */
const MAX_FIT_PER_LEVEL = 72;
const MAX_FIT_PER_RANK = 22;
const MARGIN = 16;
/** How much more than the screen is asked for on each side, so that one can move a bit. */
const ASKED_BESIDE = 0.25;

/** Show all of it. The directions have scales of their own: few graphs are as deep as wide. */
export function fitView(extent: Extent, size: Size): View {
  const perLevel = fitScale(extent.numLevels, size.width, MAX_FIT_PER_LEVEL);
  const perRank = fitScale(extent.numRanks, size.height, MAX_FIT_PER_RANK);
  return keepView({ level: 0, rank: 0, perLevel, perRank }, extent, size);
}

export function isFitted(view: View, extent: Extent, size: Size): boolean {
  const fitted = fitView(extent, size);
  return view.perLevel <= fitted.perLevel * 1.001 && view.perRank <= fitted.perRank * 1.001;
}

/** Zoom around a point of the screen; each direction until it is whole, or as large as it gets. */
export function zoomView(view: View, factor: number, around: Point, extent: Extent, size: Size): View {
  const fitted = fitView(extent, size);
  const perLevel = clamp(view.perLevel * factor, Math.min(fitted.perLevel, MAX_PER_LEVEL), MAX_PER_LEVEL);
  const perRank = clamp(view.perRank * factor, Math.min(fitted.perRank, MAX_PER_RANK), MAX_PER_RANK);
  const { level, rank } = placeAt(view, around);
  return keepView(
    { level: level - around.x / perLevel, rank: rank - around.y / perRank, perLevel, perRank },
    extent,
    size,
  );
}

export function moveView(view: View, dx: number, dy: number, extent: Extent, size: Size): View {
  return keepView(
    { ...view, level: view.level - dx / view.perLevel, rank: view.rank - dy / view.perRank },
    extent,
    size,
  );
}

/** Bring a place into the middle. */
export function centreView(view: View, level: number, rank: number, extent: Extent, size: Size): View {
  return keepView(
    { ...view, level: level - size.width / view.perLevel / 2, rank: rank - size.height / view.perRank / 2 },
    extent,
    size,
  );
}

/** Levels and ranks at a point of the screen, with their fractions. */
export function placeAt(view: View, { x, y }: Point): { level: number; rank: number } {
  return { level: view.level + x / view.perLevel, rank: view.rank + y / view.perRank };
}

/**
 * Return what to ask for so that the view is covered; null for all of the graph.
 *
 * Cut at multiples of a step that grows with the view, so that small moves ask nothing new.
 */
export function placesFor(view: View, extent: Extent, size: Size): Places | null {
  const [level_from, level_to] = rangeFor(view.level, size.width / view.perLevel, extent.numLevels);
  const [rank_from, rank_to] = rangeFor(view.rank, size.height / view.perRank, extent.numRanks);
  const isAll =
    level_from === 0 && rank_from === 0 && level_to >= extent.numLevels && rank_to >= extent.numRanks;
  return isAll ? null : { level_from, level_to, rank_from, rank_to };
}

/** Return what stands at a point of the screen, or null where nothing does. */
export function findStanding(window: WholeWindow, view: View, at: Point): Standing | null {
  const { level, rank } = placeAt(view, at);
  if (window.points !== null) {
    const { points } = window;
    const [column, row] = [Math.floor(level), Math.floor(rank)];
    const index = points.level.findIndex((known, place) => known === column && points.rank[place] === row);
    return index < 0 ? null : { kind: "chore", index };
  }
  if (window.cells !== null) {
    const { cells } = window;
    const index = cells.level.findIndex((from, place) => {
      const top = cells.rank[place] ?? 0;
      return level >= from && level < from + cells.num_levels && rank >= top && rank < top + cells.num_ranks;
    });
    return index < 0 ? null : { kind: "cell", index };
  }
  return null;
}

function fitScale(count: number, room: number, most: number): number {
  return Math.min(most, Math.max(1, room - 2 * MARGIN) / Math.max(1, count));
}

function keepView(view: View, extent: Extent, size: Size): View {
  return {
    ...view,
    level: keepAxis(view.level, view.perLevel, extent.numLevels, size.width),
    rank: keepAxis(view.rank, view.perRank, extent.numRanks, size.height),
  };
}

/** In the middle where all fits, else with no more than a margin beside it. */
function keepAxis(from: number, scale: number, count: number, room: number): number {
  const shown = room / scale;
  const margin = MARGIN / scale;
  if (count + 2 * margin <= shown) {
    return (count - shown) / 2;
  }
  return clamp(from, -margin, count + margin - shown);
}

function rangeFor(from: number, shown: number, count: number): [number, number] {
  const step = 2 ** Math.max(0, Math.floor(Math.log2(Math.max(1, shown * ASKED_BESIDE))));
  const first = Math.floor((from - shown * ASKED_BESIDE) / step) * step;
  const last = Math.ceil((from + shown * (1 + ASKED_BESIDE)) / step) * step;
  const low = clamp(first, 0, Math.max(0, count - 1));
  return [low, clamp(last, low + 1, Math.max(1, count))];
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}
