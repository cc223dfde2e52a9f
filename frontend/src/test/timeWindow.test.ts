import { describe, expect, it } from "vitest";

import {
  isWhole,
  keepWithin,
  MIN_SECONDS,
  moveBy,
  readWindow,
  spanOf,
  writeWindow,
  zoomAround,
} from "../components/timeline/timeWindow";

const RUN = { start: 1000, end: 2000 };

describe("zooming", () => {
  it("keeps the instant under the pointer where it is", () => {
    const zoomed = zoomAround({ start: 1200, end: 1600 }, 2, 1300, RUN);
    expect(spanOf(zoomed)).toBe(200);
    expect((1300 - zoomed.start) / spanOf(zoomed)).toBeCloseTo(0.25);
  });

  it("ends at the whole run", () => {
    expect(zoomAround({ start: 1200, end: 1600 }, 0.01, 1300, RUN)).toEqual(RUN);
  });

  it("ends at the shortest window", () => {
    expect(spanOf(zoomAround({ start: 1200, end: 1201 }, 1000, 1200.5, RUN))).toBe(MIN_SECONDS);
  });

  it("makes a stretch that is too short longer on both sides", () => {
    expect(keepWithin({ start: 1500, end: 1500 }, RUN)).toEqual({ start: 1499.5, end: 1500.5 });
  });
});

describe("moving", () => {
  it("goes no further than the run", () => {
    expect(moveBy({ start: 1200, end: 1600 }, 1e6, RUN)).toEqual({ start: 1600, end: 2000 });
    expect(moveBy({ start: 1200, end: 1600 }, -1e6, RUN)).toEqual({ start: 1000, end: 1400 });
    expect(moveBy({ start: 1200, end: 1600 }, 50, RUN)).toEqual({ start: 1250, end: 1650 });
  });

  it("shows a moment of a run that took none", () => {
    expect(keepWithin({ start: 5, end: 5 }, { start: 5, end: 5 })).toEqual({ start: 5, end: 6 });
  });
});

describe("the address", () => {
  it("gives back what was put there", () => {
    const address = writeWindow(new URLSearchParams("by=group"), { start: 1000.12345, end: 1010.5 });
    expect(address.toString()).toBe("by=group&start=1000.123&end=1010.5");
    expect(readWindow(address)).toEqual({ start: 1000.123, end: 1010.5 });
    expect(writeWindow(address, null).toString()).toBe("by=group");
  });

  it("names no more digits than can be seen", () => {
    const address = writeWindow(new URLSearchParams(), { start: 1000.6, end: 90_000.4 });
    expect(address.toString()).toBe("start=1001&end=90000");
  });

  it.each(["", "start=5", "start=9&end=5", "start=a&end=b", "start=-5&end=5", "start=5&end=1e300", "start=5&end=Infinity"])(
    "names no window with %o",
    (address) => {
      expect(readWindow(new URLSearchParams(address))).toBeNull();
    },
  );
});

it("knows the whole run, also where it has grown since", () => {
  expect(isWhole({ start: 1000, end: 2000 }, RUN)).toBe(true);
  expect(isWhole({ start: 1000, end: 1999 }, RUN)).toBe(false);
});
