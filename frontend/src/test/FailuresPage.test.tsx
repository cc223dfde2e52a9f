import { screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, it } from "vitest";

import type { Schemas } from "../api/client";
import { expectAccessible, openPage } from "./page";
import { answer, makeFailures, answerBy, refuse, RUN_URL, server } from "./server";

const FRESH = { is_complete: true, share: 1, problem: "" };
const PAGE_URL = `${RUN_URL}/failures`;

function makeRow(id: string, host: string): Schemas["ChoreRow"] {
  return {
    id,
    name: "relax",
    kind: "python",
    state: "failed",
    attempt: 1,
    reason: "exception",
    exit_code: 1,
    detail: "KeyError: 'missing-3'",
    root: null,
    host,
    submitted_at: null,
    started_at: null,
    ended_at: null,
    seconds: null,
  };
}

const CLUSTERS: Schemas["FailureClusterResponse"][] = [
  { id: 1, reason: "exception", pattern: "KeyError: …", failed: 250, skipped: 4, sample: makeRow("chore-relax-0004", "n1") },
  { id: 2, reason: "nonzero_exit", pattern: "<b>lost</b> atoms", failed: 1, skipped: 0, sample: makeRow("chore-md-0001", "") },
];

const FAILURE: NonNullable<Schemas["ExplanationResponse"]["failure"]> = {
  chore: { id: "chore-relax-0004", name: "relax", state: "failed", because: "" },
  reason: "exception",
  meaning: "The function raised.",
  advice: "Read the traceback.",
  exit_code: 1,
  detail: "KeyError: 'missing-3'",
  error_type: "KeyError",
  message: "'missing-3'",
  traceback: "Traceback: <script>alert(1)</script>",
  outputs: [{ stream: "stderr", lines: ["first", "second"] }],
  not_again: "",
};

function explain(choreId: string, failure: object | null) {
  return answer(`${RUN_URL}/chores/${choreId}/explanation`, { chore_id: choreId, state: "failed", failure, freshness: FRESH });
}

beforeEach(() => {
  server.use(
    answer(PAGE_URL, makeFailures(CLUSTERS)),
    answerBy(`${RUN_URL}/chores`, (url) =>
      url.searchParams.get("cluster") === "1" && url.searchParams.get("state") === "failed"
        ? { chores: ["n1", "n2", "n1", ""].map((host, index) => makeRow(`c${index}`, host)), total: 250, next: "4", freshness: FRESH }
        : { chores: [makeRow("chore-md-0001", "")], total: 1, next: null, freshness: FRESH },
    ),
    explain("chore-relax-0004", FAILURE),
    explain("chore-md-0001", { ...FAILURE, traceback: "", detail: "" }),
  );
});

it("lists the causes, and opens the first of few", async () => {
  const { container, router } = openPage(PAGE_URL);
  expect(await screen.findByText("251 chores failed for 2 causes; 4 chores could not run because of that.")).toBeVisible();
  expect(screen.getByText("KeyError: …")).toBeVisible();
  expect(screen.getByText("<b>lost</b> atoms")).toBeVisible();
  expect(await screen.findByText("Traceback: <script>alert(1)</script>")).toBeVisible();
  expect(router.state.location.search).toBe("");
  await expectAccessible(container);
  await userEvent.click(screen.getByText("KeyError: …"));
  await waitFor(() => {
    expect(screen.queryByText(/^Traceback/)).toBeNull();
  });
  expect(router.state.location.search).toBe("?cause=");
});

it("leaves many causes closed", async () => {
  const clusters = [1, 2, 3, 4].map((id) => ({ ...CLUSTERS[0], id, pattern: `cause ${id}` }));
  server.use(answer(PAGE_URL, { clusters, freshness: FRESH }));
  openPage(PAGE_URL);
  expect(await screen.findByText("cause 4")).toBeVisible();
  expect(screen.queryByText(/^For example/)).toBeNull();
});

it("opens one with its nodes, an example and what that printed", async () => {
  const { container, router } = openPage(`${PAGE_URL}?cause=`);
  await userEvent.click(await screen.findByText("KeyError: …"));
  expect(await screen.findByText("Traceback: <script>alert(1)</script>")).toBeVisible();
  expect(router.state.location.search).toBe("?cause=1");
  expect(screen.getByText("The function raised. Read the traceback.")).toBeVisible();
  const hosts = (await screen.findByRole("link", { name: "n1" })).closest("p");
  expect(hosts).toHaveTextContent("On 3 nodes (of the first 4 chores): n1 2, n2 1, unknown 1");
  expect(screen.getByRole("link", { name: "All 250 that failed" })).toHaveAttribute(
    "href",
    `${RUN_URL}/chores?cluster=1&state=failed`,
  );
  expect(screen.getByRole("link", { name: "4 chores skipped because of them" })).toHaveAttribute(
    "href",
    `${RUN_URL}/chores?cluster=1&state=skipped`,
  );
  expect(screen.getByRole("link", { name: "chore-relax-0004" })).toHaveAttribute(
    "href",
    `${RUN_URL}/chores/chore-relax-0004`,
  );
  await expectAccessible(container);
});

it("opens those that the address names, and closes them again", async () => {
  const { router } = openPage(`${PAGE_URL}?cause=2`);
  const printed = await screen.findByRole("region", { name: "Last lines of stderr" });
  expect(within(printed).getByText("first second")).toBeVisible();
  expect(screen.queryByText("Traceback")).toBeNull();
  await userEvent.click(screen.getByText("<b>lost</b> atoms"));
  await waitFor(() => {
    expect(router.state.location.search).toBe("?cause=");
  });
});

it("says why an example cannot be shown", async () => {
  server.use(refuse(`${RUN_URL}/chores/chore-relax-0004/explanation`, 404, "has no chore of that id"));
  openPage(`${PAGE_URL}?cause=1`);
  expect(await screen.findByText("has no chore of that id")).toBeVisible();
});

it.each([
  [FRESH, "No failures."],
  [{ ...FRESH, is_complete: false, share: 0.4 }, "No failures so far."],
])("says so where nothing failed (%#)", async (freshness, text) => {
  server.use(answer(PAGE_URL, makeFailures([], { freshness })));
  openPage(PAGE_URL);
  expect(await screen.findByText(text)).toBeVisible();
});

it("says so where the failures cannot be read", async () => {
  server.use(refuse(PAGE_URL, 503, "the index is busy"));
  openPage(PAGE_URL);
  expect(await screen.findByRole("alert")).toHaveTextContent("the index is busy");
});

it("says how many causes there are beside those that are listed", async () => {
  server.use(
    answer(PAGE_URL, makeFailures(CLUSTERS, { num_clusters: 1000, num_failed: 4000, num_skipped: 0 })),
  );
  openPage(PAGE_URL);
  expect(await screen.findByText(/4,000 chores failed for 1,000 causes/)).toHaveTextContent(
    `The first ${CLUSTERS.length} causes are listed.`,
  );
});
