import { screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, it } from "vitest";

import type { Comparison } from "../api/useComparison";
import { expectAccessible, openPage } from "./page";
import { answer, answerBy, makeRun, refuse, server } from "./server";

const FRESH = { is_complete: true, share: 1, problem: "" };

const NO_DURATIONS = { count: 0, median: null, p95: null, max: null, total: null };

function makeDurations(median: number) {
  return { count: 60, median, p95: 2 * median, max: 3 * median, total: 60 * median };
}

function makeComparison(parts: Partial<Comparison> = {}): Comparison {
  return {
    a: { id: "first", total: 62, states: { completed: 62 }, freshness: FRESH },
    b: { id: "second", total: 60, states: { completed: 59, failed: 1 }, freshness: FRESH },
    groups: [
      {
        name: "relax",
        a: { total: 60, states: { completed: 60 }, durations: makeDurations(1.5) },
        b: { total: 60, states: { completed: 59, failed: 1 }, durations: makeDurations(3) },
        ratio: 2,
      },
      { name: "fit", a: { total: 2, states: { completed: 2 }, durations: NO_DURATIONS }, b: null, ratio: null },
    ],
    num_groups: 2,
    failures: [
      {
        reason: "nonzero_exit",
        pattern: "lost atoms",
        where: "only_b",
        failed_a: 0,
        failed_b: 1,
        skipped_a: 0,
        skipped_b: 0,
        sample_a: null,
        sample_b: "chore-relax-0001",
      },
    ],
    num_failures: 1,
    differences: [
      {
        id: "chore-relax-0001",
        name: "relax",
        state_a: "completed",
        state_b: "failed",
        reason_a: null,
        reason_b: "nonzero_exit",
        seconds_a: 1.5,
        seconds_b: null,
      },
    ],
    num_differences: 1,
    num_only_a: 2,
    num_only_b: 0,
    is_complete: true,
    ...parts,
  };
}

function cellsOf(name: string): (string | null)[] {
  const row = screen.getByRole("rowheader", { name }).closest("tr");
  return within(row as HTMLElement).getAllByRole("cell").map((cell) => cell.textContent);
}

beforeEach(() => {
  server.use(
    answer("/runs", { runs: [makeRun({}, { id: "second" }), makeRun({}, { id: "first" })], total: 2 }),
    answer("/compare", makeComparison()),
  );
});

it("shows how groups, failures and chores differ", async () => {
  const { container } = openPage("/compare?a=first&b=second");
  await screen.findByRole("region", { name: "Groups in both runs" });
  expect(cellsOf("relax")).toEqual(["60", "60", "0", "1", "1.5 s", "3 s", "3 s", "6 s", "1 min 30 s", "3 min 0 s", "2 ×, slower"]);
  expect(cellsOf("fit")).toEqual(["2", "–", "0", "–", "–", "–", "–", "–", "–", "–", "–"]);
  expect(cellsOf("nonzero exit lost atoms")).toEqual(["only in B", "0", "1", "chore-relax-0001"]);
  expect(cellsOf("chore-relax-0001")).toEqual(["completed", "1.5 s", "failed: nonzero exit", "–"]);
  expect(screen.getByText("The two differ in 1 chore; 2 chores are only in A.")).toBeVisible();
  expect(screen.getByRole("link", { name: "failed: nonzero exit" })).toHaveAttribute(
    "href",
    "/runs/second/chores/chore-relax-0001",
  );
  await expectAccessible(container);
});

it("swaps the two", async () => {
  const asked: string[] = [];
  server.use(
    answerBy("/compare", (url) => {
      asked.push(url.searchParams.toString());
      return makeComparison();
    }),
  );
  const { router } = openPage("/compare?a=first&b=second");
  await screen.findByRole("region", { name: "Groups in both runs" });
  await userEvent.click(screen.getByRole("button", { name: "Swap" }));
  expect(router.state.location.search).toBe("?a=second&b=first");
  await expect.poll(() => asked).toEqual(["a=first&b=second", "a=second&b=first"]);
});

it("asks for the two where the address names none", async () => {
  const { router } = openPage("/compare");
  expect(await screen.findByText("Choose two runs.")).toBeVisible();
  await screen.findAllByRole("option", { name: "first" });
  await userEvent.selectOptions(screen.getByRole("combobox", { name: "A" }), "first");
  await userEvent.selectOptions(screen.getByRole("combobox", { name: "B" }), "second");
  expect(await screen.findByRole("region", { name: "Groups in both runs" })).toBeVisible();
  expect(router.state.location.search).toBe("?a=first&b=second");
});

it("says what it leaves out", async () => {
  server.use(
    answer(
      "/compare",
      makeComparison({ num_groups: 900, num_failures: 300, num_differences: 4000, is_complete: false }),
    ),
  );
  openPage("/compare?a=first&b=second");
  expect(await screen.findByText("Showing the first 2 of 900 groups.")).toBeVisible();
  expect(screen.getByText("Showing the first 1 of 300 causes.")).toBeVisible();
  expect(screen.getByText("Showing the first 1 of 4,000 chores.")).toBeVisible();
  expect(screen.getByText(/no time to compare all chores; 4,000 differences found/)).toBeVisible();
});

it("says so where one of the runs is not there", async () => {
  server.use(refuse("/compare", 404, "gone is not the name of a run"));
  openPage("/compare?a=gone&b=second");
  expect(await screen.findByText("gone is not the name of a run")).toBeVisible();
});
