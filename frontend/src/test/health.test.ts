import { expect, it } from "vitest";

import { judgeHealth, LATE_SECONDS, LOST_SECONDS } from "../lib/health";
import { makeFinished, makeStatus } from "./fixtures";

const WRITTEN = Date.parse("2026-03-01T11:59:58Z");

it.each([
  [-60, "live"],
  [LATE_SECONDS - 1, "live"],
  [LATE_SECONDS, "late"],
  [LOST_SECONDS - 1, "late"],
  [LOST_SECONDS, "lost"],
])("calls a driver that wrote %d s ago %s", (age, kind) => {
  expect(judgeHealth(makeStatus(), WRITTEN + 1000 * age).kind).toBe(kind);
});

it("expects nothing of a run that has ended", () => {
  expect(judgeHealth(makeFinished(), WRITTEN + 1e9).kind).toBe("ended");
});

it("knows nothing where no time was written", () => {
  expect(judgeHealth(makeStatus({ updated_at: null }), WRITTEN).kind).toBe("unknown");
});
