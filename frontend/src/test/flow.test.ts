import { describe, expect, it } from "vitest";

import { flowOfChores, flowOfGroups, shapeOf, totalOf } from "../components/graph/flowItem";
import { formatGraph, MAX_STEPS, parseGraph } from "../components/graph/graphAddress";
import { viewportFor } from "../components/graph/viewport";
import { wayPath } from "../components/graph/wayPath";
import { countsOfCell, placeRows } from "../components/graph/wholeRows";
import { parseOrder, formatOrder, sortRows } from "../lib/tableOrder";
import { makeChoreGraph, makeGroupGraph, makeNode, makeWindow } from "./graphs";

describe("the drawing of groups", () => {
  it("leads to the chores of each, and to the failed ones", () => {
    const { items, edges } = flowOfGroups("run/1", makeGroupGraph());
    expect(items.map(({ address }) => address)).toEqual([
      "/runs/run%2F1/chores?group=relax",
      "/runs/run%2F1/chores?group=md",
    ]);
    expect(items.map(({ failedAddress }) => failedAddress)).toEqual([
      "/runs/run%2F1/chores?group=relax&state=failed",
      null,
    ]);
    expect(items.map(totalOf)).toEqual([1000, 1000]);
    expect(edges).toMatchObject([{ source: "0", target: "1", count: 1000 }]);
    expect(edges[0]?.labelWidth).toBeGreaterThan(20);
  });

  it("moves nothing where only counts change", () => {
    const before = flowOfGroups("r", makeGroupGraph());
    const counted = makeGroupGraph({ groups: makeGroupGraph().groups.map((group) => ({ ...group, states: { running: 1 } })) });
    expect(shapeOf(flowOfGroups("r", counted))).toBe(shapeOf(before));
    expect(shapeOf(flowOfGroups("r", makeGroupGraph({ edges: [] })))).not.toBe(shapeOf(before));
  });
});

describe("the drawing of chores", () => {
  it("counts the connections that are not drawn, a gathered group by its gatherers", () => {
    const graph = makeChoreGraph();
    graph.nodes.push(makeNode({ id: "chore-sum-0001", num_upstream: 1 }));
    graph.edges.push({ upstream: 2, downstream: 3, num_connections: 1 });
    const [md, relax, fit, sum] = flowOfChores("r", graph).items;
    expect([md?.moreUpstream, md?.moreDownstream]).toEqual([0, 2]);
    expect([relax?.moreUpstream, relax?.moreDownstream]).toEqual([0, 7]);
    expect([fit?.moreUpstream, fit?.moreDownstream]).toEqual([0, 0]);
    expect(sum?.moreUpstream).toBe(0);
  });

  it("names what was skipped by how many there are, and leads to them", () => {
    const cascade = makeNode({ kind: "cascade", id: "chore-a", name: "md", state: null, states: { skipped: 12 } });
    const [item] = flowOfChores("r", makeChoreGraph({ nodes: [cascade], edges: [] })).items;
    expect(item).toMatchObject({ title: "12 chores skipped", address: "/runs/r/chores?state=skipped&group=md" });
  });

  it("draws no line to a node that is not there", () => {
    const graph = makeChoreGraph({ edges: [{ upstream: 0, downstream: 99, num_connections: 1 }] });
    expect(flowOfChores("r", graph).edges).toEqual([]);
  });
});

describe("the address of a view", () => {
  it.each([
    ["", { view: "groups", chore: "", up: 2, down: 2 }],
    ["chore=a", { view: "chore", chore: "a", up: 2, down: 2 }],
    ["view=chore&chore=a&up=0&down=5", { view: "chore", chore: "a", up: 0, down: 5 }],
    ["view=failed&up=7", { view: "failed", chore: "", up: 7, down: 2 }],
    ["view=whole", { view: "whole", chore: "", up: 2, down: 2 }],
    ["view=nothing&up=-1&down=many", { view: "groups", chore: "", up: 2, down: 2 }],
    ["view=failed&up=99999", { view: "failed", chore: "", up: MAX_STEPS, down: 2 }],
  ])("reads %o", (text, question) => {
    expect(parseGraph(new URLSearchParams(text))).toEqual(question);
  });

  it("is written as short as it can be, and reads the same", () => {
    const question = { view: "chore", chore: "chore-ä&b", up: 3, down: 2 } as const;
    expect(formatGraph(question)).toBe("view=chore&chore=chore-%C3%A4%26b&up=3");
    expect(parseGraph(new URLSearchParams(formatGraph(question)))).toEqual(question);
    expect(formatGraph({ view: "groups", chore: "x", up: 9, down: 9 })).toBe("");
  });
});

describe("where a drawing is looked at", () => {
  const screen = { width: 1000, height: 500 };

  it("shows all of a small one in the middle", () => {
    expect(viewportFor({ width: 400, height: 100 }, screen, null)).toEqual({ x: 300, y: 200, zoom: 1 });
  });

  it("makes a larger one smaller while it can be read", () => {
    expect(viewportFor({ width: 1500, height: 100 }, screen, null).zoom).toBeCloseTo(952 / 1500);
  });

  it("begins at the beginning where all cannot be read", () => {
    const { x, y, zoom } = viewportFor({ width: 400, height: 9000 }, screen, null);
    expect(zoom).toBeGreaterThan(0.5);
    expect(y).toBe(24);
    expect(x).toBeCloseTo((1000 - 400 * zoom) / 2);
  });

  it("goes to what it is about, with nothing empty beside", () => {
    const middle = viewportFor({ width: 400, height: 9000 }, screen, { x: 0, y: 4000 });
    expect(4000 * middle.zoom + middle.y).toBeCloseTo(250);
    const end = viewportFor({ width: 400, height: 9000 }, screen, { x: 0, y: 9000 });
    expect(9000 * end.zoom + end.y).toBeCloseTo(500 - 24);
  });
});

describe("the line of an edge", () => {
  it("rounds its corners as far as there is room", () => {
    expect(wayPath([{ x: 0, y: 0 }, { x: 50, y: 0 }, { x: 50, y: 4 }, { x: 90, y: 4 }])).toBe(
      "M0,0L48,0Q50,0 50,2L50,2Q50,4 52,4L90,4",
    );
  });

  it("is straight between two ends, and nothing without them", () => {
    expect(wayPath([{ x: 0, y: 0 }, { x: 9, y: 0 }])).toBe("M0,0L9,0");
    expect(wayPath([])).toBe("");
    expect(wayPath([{ x: 1, y: 1 }])).toBe("");
  });
});

describe("the whole graph as a table", () => {
  it("counts what is drawn of each chore's connections", () => {
    expect(placeRows(makeWindow(), 2)).toEqual([
      { level: 0, rank: 0, state: "completed", numUpstream: 0, numDownstream: 2 },
      { level: 1, rank: 0, state: "completed", numUpstream: 1, numDownstream: 0 },
    ]);
  });

  it("leaves out the states that are not in a cell", () => {
    const cells = { num_levels: 1, num_ranks: 1, level: [0], rank: [0], counts: { failed: [0], completed: [7] } };
    expect(countsOfCell(cells, 0)).toEqual({ completed: 7 });
  });
});

describe("the order of a table", () => {
  const usual = { key: "core", isDescending: true } as const;

  it("is read from the address, and written there", () => {
    expect(parseOrder("-name", ["name", "core"], usual)).toEqual({ key: "name", isDescending: true });
    expect(parseOrder("name", ["name", "core"], usual)).toEqual({ key: "name", isDescending: false });
    expect(parseOrder("nothing", ["name", "core"], usual)).toBe(usual);
    expect(parseOrder(null, ["name", "core"], usual)).toBe(usual);
    expect(formatOrder(usual)).toBe("-core");
  });

  it("puts node10 behind node9, and what has no value last", () => {
    expect(sortRows(["node10", "node9", "a"], (name) => name, false)).toEqual(["a", "node9", "node10"]);
    expect(sortRows([1, null, 3], (value) => value, true)).toEqual([3, 1, null]);
    expect(sortRows([1, null, 3], (value) => value, false)).toEqual([1, 3, null]);
  });
});
