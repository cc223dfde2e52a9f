import { describe, expect, it } from "vitest";

import type { WholeWindow } from "../api/useGraph";
import {
  centreView,
  findStanding,
  fitView,
  isFitted,
  moveView,
  placeAt,
  placesFor,
  zoomView,
  type Extent,
} from "../components/graph/wholeView";
import { makeWindow } from "./graphs";

const SIZE = { width: 1000, height: 500 };
const DEEP: Extent = { numLevels: 1_000_000, numRanks: 1 };
const WIDE: Extent = { numLevels: 3, numRanks: 1_000_000 };
const SMALL: Extent = { numLevels: 4, numRanks: 5 };

describe("fitting", () => {
  it.each([
    ["a deep chain", DEEP],
    ["a wide level", WIDE],
    ["few chores", SMALL],
    ["very many", { numLevels: 50_000, numRanks: 70_000 }],
  ])("shows all of %s", (_, extent) => {
    const view = fitView(extent, SIZE);
    const end = placeAt(view, { x: SIZE.width, y: SIZE.height });
    expect(view.level).toBeLessThanOrEqual(0);
    expect(view.rank).toBeLessThanOrEqual(0);
    expect(end.level).toBeGreaterThanOrEqual(extent.numLevels);
    expect(end.rank).toBeGreaterThanOrEqual(extent.numRanks);
    expect(isFitted(view, extent, SIZE)).toBe(true);
    expect(placesFor(view, extent, SIZE)).toBeNull();
  });

  it("puts few chores in the middle, no larger than can be read", () => {
    const view = fitView(SMALL, SIZE);
    expect(placeAt(view, { x: 500, y: 250 })).toEqual({ level: 2, rank: 2.5 });
    expect(view.perLevel).toBeLessThan(100);
  });

  it("survives a screen that is not there yet", () => {
    const view = fitView(DEEP, { width: 0, height: 0 });
    expect(Number.isFinite(view.level + view.perLevel + view.perRank)).toBe(true);
  });
});

describe("zooming", () => {
  it("keeps the place under the pointer", () => {
    const at = { x: 700, y: 100 };
    const before = fitView({ numLevels: 1000, numRanks: 1000 }, SIZE);
    const after = zoomView(before, 3, at, { numLevels: 1000, numRanks: 1000 }, SIZE);
    expect(placeAt(after, at).level).toBeCloseTo(placeAt(before, at).level);
    expect(placeAt(after, at).rank).toBeCloseTo(placeAt(before, at).rank);
    expect(after.perLevel).toBeCloseTo(3 * before.perLevel);
  });

  it.each([
    ["deep", DEEP],
    ["wide", WIDE],
  ])("reaches single chores of a %s graph, and comes back", (_, extent) => {
    let view = fitView(extent, SIZE);
    for (let i = 0; i < 40; i++) {
      view = zoomView(view, 2, { x: 500, y: 250 }, extent, SIZE);
    }
    expect(view.perLevel).toBeGreaterThan(50);
    expect(view.perRank).toBeGreaterThan(10);
    const places = placesFor(view, extent, SIZE);
    const numLevels = (places?.level_to ?? 0) - (places?.level_from ?? 0);
    const numRanks = (places?.rank_to ?? 0) - (places?.rank_from ?? 0);
    expect(numLevels * numRanks).toBeLessThan(4000);
    for (let i = 0; i < 40; i++) {
      view = zoomView(view, 0.5, { x: 100, y: 50 }, extent, SIZE);
    }
    expect(isFitted(view, extent, SIZE)).toBe(true);
  });
});

describe("moving", () => {
  it("reaches both ends and nothing beyond", () => {
    const near = centreView({ level: 0, rank: 0, perLevel: 100, perRank: 20 }, 999_999, 0, DEEP, SIZE);
    const end = moveView(near, -1e9, 0, DEEP, SIZE);
    expect(placeAt(end, { x: SIZE.width, y: 0 }).level).toBeLessThan(1_000_001);
    expect(placeAt(end, { x: SIZE.width, y: 0 }).level).toBeGreaterThan(999_999);
    const start = moveView(end, 1e12, 0, DEEP, SIZE);
    expect(start.level).toBeLessThanOrEqual(0);
    expect(start.level).toBeGreaterThan(-1);
  });

  it("asks for nothing new within a step", () => {
    const extent = { numLevels: 100_000, numRanks: 100_000 };
    const view = centreView({ level: 0, rank: 0, perLevel: 1, perRank: 1 }, 50_000, 50_000, extent, SIZE);
    expect(placesFor(moveView(view, 10, 0, extent, SIZE), extent, SIZE)).toEqual(placesFor(view, extent, SIZE));
    expect(placesFor(moveView(view, 500, 0, extent, SIZE), extent, SIZE)).not.toEqual(placesFor(view, extent, SIZE));
  });

  it("asks for what covers the screen, within the graph", () => {
    const extent = { numLevels: 100_000, numRanks: 40 };
    const view = centreView({ level: 0, rank: 0, perLevel: 10, perRank: 20 }, 99_990, 3, extent, SIZE);
    const places = placesFor(view, extent, SIZE);
    expect(places?.level_from).toBeLessThanOrEqual(view.level);
    expect(places?.level_to).toBe(100_000);
    expect(places?.rank_from).toBe(0);
    expect(places?.rank_to).toBeLessThanOrEqual(40);
  });
});

describe("what stands at a point", () => {
  const view = { level: 0, rank: 0, perLevel: 10, perRank: 10 };

  it("is the chore of that place", () => {
    const window = makeWindow({ points: { level: [0, 1, 1], rank: [0, 0, 1], state: [4, 4, 5] } });
    expect(findStanding(window, view, { x: 15, y: 12 })).toEqual({ kind: "chore", index: 2 });
    expect(findStanding(window, view, { x: 5, y: 12 })).toBeNull();
  });

  it("is the cell around it", () => {
    const window: WholeWindow = makeWindow({
      mode: "cells",
      points: null,
      lines: null,
      cells: { num_levels: 2, num_ranks: 4, level: [0, 2], rank: [0, 4], counts: { completed: [8, 3] } },
    });
    expect(findStanding(window, view, { x: 39, y: 79 })).toEqual({ kind: "cell", index: 1 });
    expect(findStanding(window, view, { x: 39, y: 81 })).toBeNull();
  });
});
