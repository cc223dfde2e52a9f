/** Timelines as data. */
import type { Bar, Lane, Timeline } from "../components/timeline/laneLayout";

export function makeBar(parts: Partial<Bar> = {}): Bar {
  return {
    id: "chore-relax-0001",
    name: "relax",
    host: "node1",
    attempt: 1,
    state: "completed",
    reason: null,
    started_at: 1000,
    ended_at: 1100,
    row: 0,
    ...parts,
  };
}

export function makeLane(parts: Partial<Lane> = {}): Lane {
  return { name: "node1", num_rows: 1, bars: [], running: [], failed: [], ...parts };
}

export function makeTimeline(parts: Partial<Timeline> = {}): Timeline {
  const lanes = parts.lanes ?? [makeLane({ bars: [makeBar()] })];
  return {
    run: { start: 1000, end: 2000, is_growing: false },
    by: "host",
    mode: "bars",
    start: 1000,
    end: 2000,
    bin_seconds: null,
    at: [],
    lanes,
    lane_offset: 0,
    num_lanes: lanes.length,
    num_bars: lanes.reduce((sum, { bars }) => sum + bars.length, 0),
    freshness: { is_complete: true, share: 1, problem: "" },
    ...parts,
  };
}
