import { expect, it } from "vitest";

import { isLate, LATE_SECONDS, SILENT_SECONDS } from "../lib/health";
import { makeFinished, makeStatus } from "./fixtures";

const WRITTEN = Date.parse("2026-03-01T11:59:58Z");

it.each([
  [-60, false],
  [LATE_SECONDS - 1, false],
  [LATE_SECONDS, true],
  [SILENT_SECONDS - 1, true],
  [SILENT_SECONDS, false],
])("judges a driver that wrote %d s ago: late is %s", (age, late) => {
  expect(isLate(makeStatus(), WRITTEN + 1000 * age)).toBe(late);
});

it("expects nothing of a run that has ended", () => {
  expect(isLate(makeFinished(), WRITTEN + 1000 * LATE_SECONDS)).toBe(false);
});

it("knows nothing where no time was written", () => {
  expect(isLate(makeStatus({ updated_at: null }), WRITTEN + 1000 * LATE_SECONDS)).toBe(false);
});
