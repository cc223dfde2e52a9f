import { describe, expect, it } from "vitest";

import {
  findAt,
  heightOf,
  MIN_LANE_HEIGHT,
  peakOf,
  placeLanes,
  scaleOf,
} from "../components/timeline/laneLayout";
import { makeBar, makeLane, makeTimeline } from "./timelines";

const SCALE = scaleOf({ start: 1000, end: 2000 }, 500);

describe("the place of lanes", () => {
  it("grows with the rows of bars, up to a bound", () => {
    const timeline = makeTimeline({
      lanes: [makeLane({ name: "a", num_rows: 0 }), makeLane({ name: "b", num_rows: 4 }), makeLane({ name: "c", num_rows: 2000 })],
    });
    const [a, b, c] = placeLanes(timeline);
    expect(a?.height).toBe(MIN_LANE_HEIGHT);
    expect(b?.height).toBe(64);
    expect(c?.height).toBeCloseTo(220);
    expect(b?.top).toBeGreaterThan((a?.top ?? 0) + (a?.height ?? 0));
  });

  it("keeps very many lanes on one canvas", () => {
    const lanes = Array.from({ length: 100 }, (_, i) => makeLane({ name: `node${i}`, num_rows: 500 }));
    expect(heightOf(placeLanes(makeTimeline({ lanes })))).toBeLessThan(4000);
  });
});

describe("what stands at a point", () => {
  const bar = makeBar({ id: "chore-a", started_at: 1200, ended_at: 1400, row: 1 });
  const running = makeBar({ id: "chore-b", started_at: 1500, ended_at: null, state: "running" });
  const short = makeBar({ id: "chore-c", started_at: 1100, ended_at: 1100.1 });
  const timeline = makeTimeline({ lanes: [makeLane({ num_rows: 2, bars: [short, bar, running] })] });
  const lanes = placeLanes(timeline);
  const top = lanes[0]?.top ?? 0;
  const idAt = (x: number, y: number) => {
    const found = findAt(timeline, lanes, SCALE, x, y);
    return found?.kind === "bar" ? found.bar.id : null;
  };

  it("is the bar of that row and time", () => {
    expect(idAt(150, top + 24)).toBe("chore-a");
    expect(idAt(150, top + 4)).toBeNull();
    expect(idAt(230, top + 24)).toBeNull();
  });

  it("is a bar that still runs, up to the end of what is known", () => {
    expect(idAt(490, top + 4)).toBe("chore-b");
  });

  it("is a bar that is thinner than a finger, too", () => {
    expect(idAt(52, top + 4)).toBe("chore-c");
    expect(idAt(56, top + 4)).toBeNull();
  });

  it("is nothing between lanes", () => {
    expect(idAt(150, 0)).toBeNull();
    expect(idAt(150, 5000)).toBeNull();
  });

  it("is a bin where bars would be too many", () => {
    const many = makeTimeline({
      mode: "occupancy",
      bin_seconds: 100,
      at: [1000, 1100, 1200],
      lanes: [makeLane({ running: [0, 2.5, 7], failed: [0, 1, 0] })],
    });
    const found = findAt(many, placeLanes(many), SCALE, 60, 10);
    expect(found).toMatchObject({ kind: "bin", bin: 1 });
    expect(findAt(many, placeLanes(many), SCALE, 400, 10)).toBeNull();
    expect(peakOf(many)).toBe(7);
  });
});
