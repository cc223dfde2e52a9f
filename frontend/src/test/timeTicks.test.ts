import { describe, expect, it } from "vitest";

import { ticksOf } from "../components/timeline/timeTicks";

const at = (text: string) => new Date(text).getTime() / 1000;

describe("ticks", () => {
  it.each([1, 7, 60, 3_599, 86_400, 1e6, 1e8, 1e10])("are neither crowded nor missing over %d s", (span) => {
    const start = at("2026-03-01T10:17:23");
    const ticks = ticksOf({ start, end: start + span }, 1000, 90);
    expect(ticks.length).toBeGreaterThanOrEqual(1);
    expect(ticks.length).toBeLessThanOrEqual(13);
    for (const tick of ticks) {
      expect(tick.at).toBeGreaterThanOrEqual(start);
      expect(tick.at).toBeLessThanOrEqual(start + span);
    }
  });

  it("stand at round times of the reader's day", () => {
    const ticks = ticksOf({ start: at("2026-03-01T10:17:23"), end: at("2026-03-01T12:17:23") }, 1000, 90);
    expect(ticks.map(({ label }) => label)).toEqual([
      "10:30", "10:45", "11:00", "11:15", "11:30", "11:45", "12:00", "12:15",
    ]);
  });

  it("name midnight by the day that begins", () => {
    const ticks = ticksOf({ start: at("2026-03-01T20:00:00"), end: at("2026-03-02T04:00:00") }, 450, 90);
    expect(ticks.map(({ label, isDay }) => [label, isDay])).toEqual([
      ["20:00", false],
      ["22:00", false],
      ["2 Mar", true],
      ["02:00", false],
      ["04:00", false],
    ]);
  });

  it("say seconds, and parts of these, where the window is short", () => {
    const start = at("2026-03-01T10:00:00");
    expect(ticksOf({ start, end: start + 10 }, 500, 90).map(({ label }) => label)).toEqual([
      "10:00:00", "10:00:02", "10:00:04", "10:00:06", "10:00:08", "10:00:10",
    ]);
    expect(ticksOf({ start: start + 0.3, end: start + 1.3 }, 500, 90).map(({ label }) => label)).toEqual([
      "10:00:00.4", "10:00:00.6", "10:00:00.8", "10:00:01.0", "10:00:01.2",
    ]);
  });

  it("say days where it is long, each once", () => {
    const ticks = ticksOf({ start: at("2026-03-01T10:00:00"), end: at("2026-03-06T10:00:00") }, 600, 90);
    expect(ticks.map(({ label }) => label)).toEqual(["2 Mar", "3 Mar", "4 Mar", "5 Mar", "6 Mar"]);
  });
});
