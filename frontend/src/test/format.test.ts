import { describe, expect, it } from "vitest";

import {
  formatAgo,
  formatCount,
  formatDuration,
  formatInstant,
  formatPercent,
  formatQuantity,
  formatRate,
  formatSeconds,
} from "../lib/format";

describe("formatDuration", () => {
  it.each([
    [-5, "0 s"],
    [0.9, "0 s"],
    [59.9, "59 s"],
    [60, "1 min 0 s"],
    [3599, "59 min 59 s"],
    [3849, "1 h 04 min"],
    [86399, "23 h 59 min"],
    [97200, "1 d 3 h"],
  ])("writes %d seconds as %s", (seconds, text) => {
    expect(formatDuration(seconds)).toBe(text);
  });
});

describe("formatSeconds", () => {
  it.each([
    [0, "0 s"],
    [0.000753, "0.753 ms"],
    [0.0421, "42.1 ms"],
    [0.1, "0.1 s"],
    [3.21, "3.21 s"],
    [3849, "1 h 04 min"],
  ])("writes %d seconds as %s", (seconds, text) => {
    expect(formatSeconds(seconds)).toBe(text);
  });
});

describe("formatPercent", () => {
  it.each([
    [0, 0, "0%"],
    [0, 7, "0%"],
    [1, 3, "33%"],
    [999_999, 1_000_000, "99%"],
    [7, 7, "100%"],
  ])("writes %d of %d as %s", (part, whole, text) => {
    expect(formatPercent(part, whole)).toBe(text);
  });
});

describe("formatRate", () => {
  it.each([
    [123.4, "123 / s"],
    [1, "1 / s"],
    [0.5, "30 / min"],
    [0.01, "36 / h"],
  ])("writes %d per second as %s", (rate, text) => {
    expect(formatRate(rate)).toBe(text);
  });
});

it.each([
  [-3, "just now"],
  [4, "just now"],
  [59, "59 s ago"],
  [61, "1 min ago"],
  [3600 * 47, "47 h ago"],
  [3600 * 48, "2 d ago"],
])("calls what was %d s before now %s", (seconds, text) => {
  expect(formatAgo(seconds)).toBe(text);
});

it("groups the digits of counts", () => {
  expect(formatCount(1234567)).toBe("1,234,567");
  expect(formatQuantity(1, "chore")).toBe("1 chore");
  expect(formatQuantity(1200, "chore")).toBe("1,200 chores");
});

it("shows an instant it cannot read as it is", () => {
  expect(formatInstant("yesterday")).toBe("yesterday");
  expect(formatInstant("2026-03-01T11:59:58+00:00")).toContain("2026");
});
