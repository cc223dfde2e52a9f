import { screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, describe, expect, it } from "vitest";

import type { Run, Schemas } from "../api/client";
import { makeFinished } from "./fixtures";
import { makeChore } from "./chores";
import { expectAccessible, openPage } from "./page";
import { answer, makeFailures, answerBy, makeRun, refuse, RUN_URL, server } from "./server";

const FRESH = { is_complete: true, share: 1, problem: "" };
const START = Date.parse("2026-03-01T10:55:51Z") / 1000;

function makeSeries(parts: Partial<Schemas["SeriesResponse"]> = {}): Schemas["SeriesResponse"] {
  const at = [START, START + 60, START + 120];
  const none = at.map(() => 0);
  return {
    run: { start: START, end: START + 150, is_growing: true },
    start: START,
    end: START + 180,
    bin_seconds: 60,
    at,
    seconds: [60, 60, 30],
    submitted: none,
    started: none,
    completed: [30, 12, 6],
    failed: [0, 6, 0],
    cancelled: none,
    skipped: none,
    requeued: none,
    running: none,
    cores_busy: [64, 128, 192],
    gpus_busy: none,
    total_nodes: [3, 3, 3],
    total_cores: [192, 192, 192],
    total_gpus: none,
    freshness: FRESH,
    ...parts,
  };
}

const WAITING: Schemas["WaitingResponse"] = {
  obstacle: "paused",
  detail: "",
  num_blocked: 480,
  groups: [
    {
      name: "fit",
      num_blocked: 100,
      upstream: [{ name: "relax", num_left: 400, num_running: 20 }],
      num_upstream_left_out: 2,
      waits_for_room: true,
    },
  ],
  num_left_out: 1,
  total_cores: 192,
  free_cores: 32,
  total_gpus: 0,
  free_gpus: 0,
  freshness: FRESH,
};

function makeEvents(first: number, last: number) {
  const numbers = Array.from({ length: first - last + 1 }, (_, index) => first - index);
  return numbers.map((number) => ({ number, at: START + number, epoch: 1, kind: "paused", text: `event ${number}` }));
}

/** Groups by how many of their 100 attempts went to warm workers. */
function makeGroups(pooled: Record<string, number>): Schemas["GroupsResponse"] {
  const groups = Object.entries(pooled).map(([name, num]) => ({
    name,
    total: 100,
    states: { completed: 100 },
    num_pooled: num,
    num_jobs: 100 - num,
  }));
  const num_pooled = groups.reduce((sum, group) => sum + group.num_pooled, 0);
  return {
    groups,
    total: groups.length,
    num_pooled,
    num_jobs: 100 * groups.length - num_pooled,
    freshness: FRESH,
  };
}

function makeClusters(count: number) {
  return Array.from({ length: count }, (_, index) => ({
    id: index + 1,
    reason: "exception" as const,
    pattern: `KeyError: ${index + 1}`,
    failed: 6,
    skipped: index,
    sample: makeChore(),
  }));
}

function serveRun(run: Run) {
  server.use(
    answer(RUN_URL, run),
    answer(`${RUN_URL}/series`, makeSeries()),
    answer(`${RUN_URL}/waiting`, WAITING),
    answer(`${RUN_URL}/groups`, makeGroups({})),
    answer(`${RUN_URL}/failures`, makeFailures(makeClusters(7))),
    answerBy(`${RUN_URL}/history`, (url) =>
      url.searchParams.get("cursor") === "3"
        ? { events: makeEvents(2, 1), total: 12, next: null, freshness: FRESH }
        : { events: makeEvents(12, 3), total: 12, next: 3, freshness: FRESH },
    ),
  );
}

beforeEach(() => {
  serveRun(makeRun());
});

function rowsOf(name: string): (string | null)[][] {
  const table = within(screen.getByRole("region", { name })).getByRole("table");
  return within(table)
    .getAllByRole("row")
    .slice(1)
    .map((row) => [...row.children].map((cell) => cell.textContent));
}

describe("the overview", () => {
  it("shows the whole run and is accessible", async () => {
    const { container } = openPage(RUN_URL);
    expect(await screen.findByText("500 of 1,000 chores ended")).toBeVisible();
    expect(screen.getByText("(5 skipped)")).toBeVisible();
    expect(screen.queryByRole("figure", { name: "GPUs" })).toBeNull();
    expect(screen.getByText("Cores busy").nextSibling).toHaveTextContent("160 of 192");
    expect(screen.getByText("Left, at this rate").nextSibling).toHaveTextContent("about 16 min 40 s");
    expect(screen.getByText("Node-hours").nextSibling).toHaveTextContent("3.2");
    await screen.findByRole("region", { name: "Failures by cause" });
    await screen.findByRole("figure", { name: "Cores" });
    await screen.findByText("event 12");
    await expectAccessible(container);
  });

  it.each([
    ["Allocation ends", "in 1 h 04 min", makeRun({ ends_at: "2026-03-01T13:04:00+00:00" })],
    ["Allocation ended", "5 min ago", makeRun({ ends_at: "2026-03-01T11:55:00+00:00" }, { health: "lost" })],
  ])("shows when the time is over: %s %s", async (name, when, run) => {
    serveRun(run);
    openPage(RUN_URL);
    expect((await screen.findByText(name)).nextSibling).toHaveTextContent(when);
    expect(screen.getByText(when)).toHaveAttribute("title", expect.stringContaining("2026"));
  });

  it("shows no end of an allocation once the run is over", async () => {
    const ended = makeFinished({ ends_at: "2026-03-01T13:04:00+00:00" });
    serveRun(makeRun(ended, { health: "ended" }));
    openPage(RUN_URL);
    expect(await screen.findByText("Took")).toBeVisible();
    expect(screen.queryByText(/^Allocation/)).toBeNull();
  });

  it("says how fast it went, in a unit that is readable", async () => {
    openPage(RUN_URL);
    const chart = await screen.findByRole("figure", { name: "Chores ended per minute" });
    await userEvent.click(within(chart).getByText("As a table"));
    await within(chart).findByRole("table");
    expect(rowsOf("Chores ended per minute").map((row) => row.slice(1))).toEqual([
      ["30", "0"],
      ["12", "6"],
      ["12", "0"],
    ]);
  });

  it("leads to all causes of failures and to the chores of a group", async () => {
    openPage(RUN_URL);
    await screen.findByRole("region", { name: "Failures by cause" });
    expect(rowsOf("Failures by cause")).toHaveLength(5);
    expect(screen.getByRole("link", { name: "All 7 causes, with examples" })).toHaveAttribute(
      "href",
      `${RUN_URL}/failures`,
    );
    const groups = screen.getByRole("region", { name: "Chores by group" });
    expect(within(groups).getByRole("link", { name: "relax" })).toHaveAttribute(
      "href",
      `${RUN_URL}/chores?group=relax`,
    );
  });

  it("says in one line what warm workers served", async () => {
    const pooled = { relax: 0, fit: 20, md: 40, a: 1, b: 2, c: 3, d: 4 };
    server.use(answer(`${RUN_URL}/groups`, makeGroups(pooled)));
    openPage(RUN_URL);
    const line = await screen.findByText(/went to\s+warm workers/);
    expect(line).toHaveTextContent(
      "70 of 700 attempts went to warm workers: md 40, fit 20, d 4, c 3, b 2 and 1 more group",
    );
    expect(within(line).getByRole("link", { name: "md" })).toHaveAttribute(
      "href",
      `${RUN_URL}/chores?group=md`,
    );
  });

  it("says what pending chores wait for", async () => {
    openPage(RUN_URL);
    expect(await screen.findByText(/^The run is paused/)).toBeVisible();
    expect(rowsOf("What pending chores wait for")).toEqual([
      ["fit", "100", "relax (400 left, 20 running); 2 more groups; free cores, GPUs or time"],
    ]);
    expect(screen.getByText("1 more group with pending chores.")).toBeVisible();
  });

  it("tells the history of the run, a page at a time", async () => {
    openPage(RUN_URL);
    expect(await screen.findByText("event 12")).toBeVisible();
    expect(screen.getByText("2 more events")).toBeVisible();
    await userEvent.click(screen.getByRole("button", { name: "Show earlier" }));
    expect(await screen.findByText("event 1")).toBeVisible();
    expect(screen.queryByRole("button", { name: "Show earlier" })).toBeNull();
  });

  it("says what to do with a run that failed", async () => {
    const parts = { advice: "To run what failed again:", command: "matensemble retry /study/run --failed" };
    serveRun(makeRun(makeFinished({ state: "failed" }), { health: "ended", ...parts }));
    openPage(RUN_URL);
    expect(await screen.findByText("matensemble retry /study/run --failed")).toBeVisible();
    expect(screen.queryByText("Rate")).toBeNull();
    expect(screen.getByText("Took").nextSibling).toHaveTextContent("1 h 04 min");
  });

  it("shows the GPUs of a run that has any", async () => {
    server.use(answer(`${RUN_URL}/series`, makeSeries({ total_gpus: [8, 8, 8] })));
    openPage(RUN_URL);
    expect(await screen.findByRole("figure", { name: "GPUs" })).toBeVisible();
  });

  it("says how much of the run is indexed", async () => {
    server.use(
      answer(`${RUN_URL}/series`, makeSeries({ freshness: { ...FRESH, is_complete: false, share: 0.43 } })),
    );
    openPage(RUN_URL);
    expect(await screen.findByText(/Indexed 43% of the run/)).toBeVisible();
  });

  it("draws nothing where nothing has happened yet", async () => {
    const nothing = { start: 0, end: 0, is_growing: false };
    server.use(answer(`${RUN_URL}/series`, makeSeries({ run: nothing, start: 0, end: 1, at: [0], seconds: [0] })));
    openPage(RUN_URL);
    expect(await screen.findByText("event 12")).toBeVisible();
    await waitFor(() => {
      expect(screen.queryByText("Reading what happened…")).toBeNull();
    });
    expect(screen.queryByRole("figure")).toBeNull();
  });

  it("shows the rest where one part cannot be had", async () => {
    server.use(refuse(`${RUN_URL}/series`, 503, "the index cannot be read"));
    openPage(RUN_URL);
    expect(await screen.findByText("the index cannot be read")).toBeVisible();
    expect(screen.getByText("500 of 1,000 chores ended")).toBeVisible();
  });

  it("waits for what was not published yet", async () => {
    server.use(answer(RUN_URL, { ...makeRun({}, { health: "waiting" }), status: null }));
    openPage(RUN_URL);
    expect(await screen.findByText("Nothing was published yet.")).toBeVisible();
    expect(screen.getAllByText(/^Not started/).length).toBeGreaterThan(0);
  });
});
