import { describe, expect, it } from "vitest";

import type { ChoreRow } from "../api/client";
import { extendTrail } from "../api/useChores";
import { selectionOf } from "../lib/bulk";
import { choreAddress, choresAddress } from "../lib/choreAddress";
import {
  formatQuestion,
  isFiltered,
  parseQuestion,
  withCondition,
  withoutConditions,
} from "../lib/choreFilter";
import { describeResources } from "../lib/resources";
import { makeChore } from "./chores";

describe("the question in an address", () => {
  it("comes back as it was", () => {
    const address = "text=a%26b&state=failed&group=relax&reason=signal&host=n1&cluster=3&retried=true&sort=seconds&descending=true";
    const question = parseQuestion(new URLSearchParams(address));
    expect(question).toEqual({
      text: "a&b",
      state: "failed",
      group: "relax",
      reason: "signal",
      host: "n1",
      cluster: 3,
      retried: true,
      sort: "seconds",
      descending: true,
    });
    expect(parseQuestion(new URLSearchParams(formatQuestion(question)))).toEqual(question);
  });

  it("leaves out what it says wrongly", () => {
    const address = "state=odd&reason=bad&cluster=x&retried=1&sort=size&descending=no&text=";
    expect(parseQuestion(new URLSearchParams(address))).toEqual({});
    expect(parseQuestion(new URLSearchParams({ text: "x".repeat(300) })).text).toHaveLength(255);
  });

  it("loses its conditions, and keeps its order", () => {
    const params = withCondition(new URLSearchParams("sort=seconds&state=failed"), "group", "fit");
    expect(isFiltered(parseQuestion(params))).toBe(true);
    expect(withoutConditions(params).toString()).toBe("sort=seconds");
    expect(withCondition(params, "state", "").get("state")).toBeNull();
  });

  it("makes addresses of any name", () => {
    expect(choreAddress("run/1", "a b")).toBe("/runs/run%2F1/chores/a%20b");
    expect(choresAddress("r", { group: "a&b" })).toBe("/runs/r/chores?group=a%26b");
    expect(choresAddress("r", {})).toBe("/runs/r/chores");
  });
});

describe("the trail of pages", () => {
  it("grows by the next page, and stays where nothing moved", () => {
    const trail = extendTrail([null], 0, "a");
    expect(trail).toEqual([null, "a"]);
    expect(extendTrail(trail, 0, "a")).toBe(trail);
  });

  it("forgets what was behind a place that moved, and what is not there any more", () => {
    expect(extendTrail([null, "a", "b"], 0, "c")).toEqual([null, "c"]);
    expect(extendTrail([null, "a", "b"], 0, null)).toEqual([null]);
  });
});

describe("an action on a table", () => {
  const chores: ChoreRow[] = [makeChore({ id: "a" }), makeChore({ id: "b" })];

  it("is told by what the driver knows, and else by ids", () => {
    expect(selectionOf({ group: "fit" }, chores, 900)).toEqual({ groups: ["fit"] });
    expect(selectionOf({ reason: "signal" }, chores, 900)).toEqual({ reason: "signal" });
    expect(selectionOf({ state: "failed" }, chores, 900)).toEqual({ failed: true });
    expect(selectionOf({ group: "fit", state: "failed" }, chores, 2)).toEqual({ chores: ["a", "b"] });
  });

  it("is not offered for what cannot be told, or for all", () => {
    expect(selectionOf({ text: "x" }, chores, 900)).toBeNull();
    expect(selectionOf({}, chores, 2)).toBeNull();
    expect(selectionOf({ sort: "seconds" }, chores, 2)).toBeNull();
    expect(selectionOf({ text: "x" }, [], 0)).toBeNull();
  });
});

it.each([
  [{}, "1 task of 1 core"],
  [
    { num_tasks: 2, cores_per_task: 4, gpus_per_task: 1, num_nodes: 2, mpi: true, exclusive: true, duration: 5400 },
    "2 tasks of 4 cores and 1 GPU, over 2 nodes, MPI, nodes to itself, 1 h 30 min at most",
  ],
  [{ inherit_env: false }, "1 task of 1 core, inherit_env: false"],
])("says %j in words", (resources, text) => {
  expect(describeResources(resources)).toBe(text);
});
