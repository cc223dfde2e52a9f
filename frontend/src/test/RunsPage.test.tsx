import { screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, it } from "vitest";

import { makeFinished } from "./fixtures";
import { expectAccessible, openPage } from "./page";
import { answer, cut, makeRun, server } from "./server";

const SETTINGS = { version: "0.6.0", root: "~/study", is_single_run: false, allow_actions: false };
const RUNS = [
  makeRun({}, { id: "third" }),
  makeRun({}, { id: "second", health: "lost", problem: "its process 4711 is gone" }),
  makeRun(makeFinished(), { id: "first", health: "ended", eta_seconds: null }),
];

function listRuns(runs: typeof RUNS, total = runs.length) {
  server.use(answer("/runs", { runs, total }), ...runs.map((run) => answer(`/runs/${run.id}`, run)));
}

function cellsOf(name: string): (string | null)[] {
  const row = screen.getByRole("link", { name }).closest("tr");
  return within(row as HTMLElement).getAllByRole("cell").map((cell) => cell.textContent);
}

it("shows the runs with what matters of each", async () => {
  listRuns(RUNS);
  const { container } = openPage("/");
  await screen.findByRole("link", { name: "third" });
  expect(cellsOf("third")).toEqual(["", "Running", "50%of 1,000", "5", "30 / min", "16 min 40 s", "1 h 04 min", "3.2", "1 h ago"]);
  expect(cellsOf("second").slice(1, 5)).toEqual(["Lost", "50%of 1,000", "5", "–"]);
  expect(cellsOf("first").slice(1, 6)).toEqual(["Completed", "100%of 1,000", "0", "–", "–"]);
  expect(screen.getByText("3 runs")).toBeVisible();
  expect(screen.getByRole("link", { name: "Download as CSV" })).toHaveAttribute(
    "href",
    "http://localhost:3000/api/v1/runs?format=csv",
  );
  await expectAccessible(container);
});

it("says how many it leaves out", async () => {
  listRuns(RUNS, 5000);
  openPage("/");
  expect(await screen.findByText("Showing the newest 3 of 5,000 runs.")).toBeVisible();
});

it("compares two, the older first", async () => {
  listRuns(RUNS);
  const { router } = openPage("/");
  await userEvent.click(await screen.findByRole("checkbox", { name: "Compare third" }));
  expect(screen.getByText("Pick one more to compare.")).toBeVisible();
  await userEvent.click(screen.getByRole("checkbox", { name: "Compare first" }));
  expect(screen.getByRole("checkbox", { name: "Compare second" })).toBeDisabled();
  expect(router.state.location.search).toBe("?pick=third&pick=first");
  expect(screen.getByRole("link", { name: "Compare the two" })).toHaveAttribute(
    "href",
    "/compare?a=first&b=third",
  );
});

it("tells of a run that has published nothing", async () => {
  const unreadable = makeRun({}, { id: "torn", health: "unreadable", problem: "status.json is no object" });
  listRuns([{ ...unreadable, status: null, node_hours: null }]);
  openPage("/");
  expect(await screen.findByText("status.json is no object")).toBeVisible();
  expect(screen.getByText("Unreadable")).toBeVisible();
  expect(screen.queryByRole("checkbox")).toBeNull();
});

it("says how to start a run that was only saved", async () => {
  const parts = { id: "saved", health: "waiting", advice: "To run it:", command: "matensemble run /study/saved" } as const;
  listRuns([{ ...makeRun({}, parts), status: null }]);
  openPage("/");
  expect(await screen.findByText("matensemble run /study/saved")).toBeVisible();
  expect(cellsOf("saved")).toEqual(["Not started", "To run it: matensemble run /study/saved"]);
});

it("goes to the run where there is only that one", async () => {
  listRuns(RUNS.slice(0, 1));
  server.use(answer("/settings", { ...SETTINGS, is_single_run: true }));
  const { router } = openPage("/");
  await waitFor(() => {
    expect(router.state.location.pathname).toBe("/runs/third");
  });
});

it("says how to make a run where there is none", async () => {
  listRuns([]);
  const { container } = openPage("/");
  expect(await screen.findByRole("heading", { name: "No runs in “~/study” yet" })).toBeVisible();
  expect(screen.getByText("python study.py")).toBeVisible();
  await expectAccessible(container);
});

it("says so when nobody answers", async () => {
  server.use(cut("/runs"));
  openPage("/");
  expect(await screen.findByRole("alert")).toHaveTextContent("The dashboard does not answer");
});
