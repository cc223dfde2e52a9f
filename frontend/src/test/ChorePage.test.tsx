import { screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, it } from "vitest";

import type { Schemas } from "../api/client";
import "../pages/ChorePage";
import { FRESH, giveElementsSize, makeChore } from "./chores";
import { FakeEventSource } from "./eventSource";
import { expectAccessible, openPage } from "./page";
import { answer, answerBy, makeRun, refuse, RUN_URL, server } from "./server";

const ID = "chore-relax-0001";
const CHORE_URL = `${RUN_URL}/chores/${ID}`;

const FAILED = makeChore({
  id: ID,
  state: "failed",
  reason: "exception",
  exit_code: 1,
  attempt: 2,
  detail: "KeyError: 'a'",
});

function makeAttempt(attempt: number): Schemas["AttemptResponse"] {
  return {
    attempt,
    reason: "exception",
    exit_code: 1,
    detail: "KeyError: 'a'",
    host: "n1",
    jobid: `f${attempt}`,
    is_pooled: false,
    submitted_at: 1772362800 + 100 * attempt,
    started_at: 1772362801 + 100 * attempt,
    ended_at: 1772362861 + 100 * attempt,
    seconds: 60,
  };
}

function makeAnswer(parts: Partial<Schemas["ChoreResponse"]> = {}): Schemas["ChoreResponse"] {
  return {
    chore: FAILED,
    attempts: [makeAttempt(1), makeAttempt(2)],
    upstream: [],
    num_upstream: 30,
    gathers: [],
    command: [],
    callable: "relax",
    arguments_bytes: 812,
    environment_names: [],
    resources: { num_tasks: 2, cores_per_task: 4 },
    nice: 0,
    freshness: FRESH,
    ...parts,
  };
}

function makeExplanation(parts: object = {}) {
  return {
    chore_id: ID,
    state: "failed",
    because: ["exception (exit code 1): KeyError: 'a'"],
    hold: "",
    waits_for: [],
    num_waits_for: 0,
    num_upstream: 30,
    gathers: [],
    not_before: null,
    room: null,
    chain: [],
    num_chain_left_out: 0,
    failure: {
      chore: { id: ID, name: "relax", state: "failed", because: "" },
      reason: "exception",
      meaning: "The function raised.",
      advice: "Read the traceback.",
      exit_code: 1,
      detail: "",
      error_type: "KeyError",
      message: "'a'",
      traceback: "Traceback:\n  <script>alert(1)</script>\nKeyError: \x1b[31m'a'\x1b[0m\n",
      outputs: [],
      not_again: "it was not tried again: one further attempt is all it may use",
    },
    earlier: [{ attempt: 1, text: "the node was lost" }],
    source: "",
    freshness: FRESH,
    ...parts,
  };
}

function makeLog(text: string, parts: Partial<Schemas["LogResponse"]> = {}): Schemas["LogResponse"] {
  return {
    stream: "stdout",
    attempt: 2,
    text,
    start: 0,
    end: text.length,
    size: text.length,
    is_complete: true,
    is_replaced: false,
    mark: String(text.length),
    modified_at: 0,
    ...parts,
  };
}

beforeEach(() => {
  giveElementsSize(380, 19);
  server.use(
    answer(CHORE_URL, makeAnswer()),
    answer(`${CHORE_URL}/explanation`, makeExplanation()),
    answer(`${CHORE_URL}/metadata`, {
      attempt: 2,
      size: 1,
      modified_at: 0,
      content: { callable: "relax", arguments: "<b>1</b>, steps=3", success_codes: [0] },
    }),
    answerBy(`${CHORE_URL}/upstream`, (url) => {
      const start = Number(url.searchParams.get("cursor"));
      const chores = Array.from({ length: start === 0 ? 25 : 5 }, (_, index) =>
        makeChore({ id: `chore-fit-${String(start + index).padStart(4, "0")}` }),
      );
      const groups = start === 0 ? [{ name: "scan", total: 9, states: { completed: 8, blocked: 1 } }] : [];
      return { chores, total: 30, next: start === 0 ? "25" : null, groups, num_groups_left_out: 0, freshness: FRESH };
    }),
    answer(`${CHORE_URL}/downstream`, {
      chores: [],
      total: 0,
      next: null,
      groups: [],
      num_groups_left_out: 0,
      freshness: FRESH,
    }),
    answer(`${CHORE_URL}/artifacts`, {
      artifacts: [
        { name: "stdout", is_output: false, size: 1200, modified_at: 1772362861, problem: null },
        { name: "table.csv", is_output: true, size: null, modified_at: null, problem: "it is not there" },
      ],
      num_outputs: 1,
    }),
  );
});

it("says what it is and why it failed", async () => {
  const { container } = openPage(CHORE_URL);
  expect(await screen.findByRole("heading", { level: 2, name: ID })).toBeVisible();
  expect(await screen.findByText("2 tasks of 4 cores")).toBeVisible();
  expect(await screen.findByText("exception (exit code 1): KeyError: 'a'")).toBeVisible();
  expect(screen.getByText(/It was not tried again/)).toBeVisible();
  expect(screen.getByText("the node was lost", { exact: false })).toBeVisible();
  // What it says is text.
  expect(screen.getByText(/<script>alert\(1\)<\/script>/)).toBeVisible();
  expect(await screen.findByText("relax(<b>1</b>, steps=3)")).toBeVisible();
  expect(container.querySelector("script, main b")).toBeNull();
  expect(screen.getByRole("link", { name: "Neighbourhood in the graph" })).toHaveAttribute(
    "href",
    `${RUN_URL}/graph?chore=${ID}`,
  );
  await screen.findByText("chore-fit-0000");
  await expectAccessible(container);
});

it("shows its attempts, and looks at one of them by the address", async () => {
  server.use(
    answerBy(`${CHORE_URL}/error`, (url) => ({
      attempt: Number(url.searchParams.get("attempt")),
      size: 1,
      modified_at: 0,
      content: { attempt: 1, type: "OSError", message: "first", traceback: "at the first" },
    })),
  );
  const { router } = openPage(CHORE_URL);
  const attempts = await screen.findByRole("region", { name: "All attempts" });
  expect(within(attempts).getAllByText("1 min 0 s")).toHaveLength(2);
  await userEvent.click(within(attempts).getByRole("link", { name: "1" }));
  expect(router.state.location.search).toBe("?attempt=1");
  expect(await screen.findByText("OSError: first")).toBeVisible();
  expect(screen.getByRole("combobox", { name: "Attempt" })).toHaveValue("1");
});

it("lists what it depends on, in pages, whole groups first", async () => {
  openPage(CHORE_URL);
  const upstream = await screen.findByRole("region", { name: /^Depends on 30 chores, all of 1 group/ });
  expect(within(upstream).getByText("8 completed", { exact: false })).toHaveTextContent("1 pending, 8 completed");
  await userEvent.click(within(upstream).getByRole("button", { name: "Show 25 more" }));
  expect(await screen.findByText("chore-fit-0029")).toBeVisible();
  expect(screen.getByRole("region", { name: "Needed by nothing" })).toBeVisible();
});

it("says what a pending one waits for, and asks for no files of it", async () => {
  server.use(
    answer(CHORE_URL, makeAnswer({ chore: { ...FAILED, state: "blocked", reason: null, attempt: 0 }, attempts: [] })),
    answer(
      `${CHORE_URL}/explanation`,
      makeExplanation({
        state: "blocked",
        because: ["waits for 2 chores"],
        hold: "the run is paused",
        failure: null,
        earlier: [],
        waits_for: [{ id: "chore-fit-0900", name: "fit", state: "running", because: "on n3" }],
        num_waits_for: 2,
        gathers: [{ name: "scan", total: 9, ended: 8 }],
        room: {
          request: "2 tasks of 4 cores",
          cores: 8,
          gpus: 0,
          duration: 60,
          free_cores: 4,
          total_cores: 16,
          free_gpus: 0,
          total_gpus: 0,
          avoids: ["n7"],
        },
      }),
    ),
    refuse(`${CHORE_URL}/metadata`, 500, "was asked for"),
  );
  openPage(CHORE_URL);
  expect(await screen.findByText("the run is paused")).toBeVisible();
  expect(screen.getByText(/Waits for 2 chores of 30, the first 1/)).toBeVisible();
  expect(screen.getByText(/Free now: 4 of 16 cores. It keeps off n7./)).toBeVisible();
  expect(screen.getByText("8 of 9 ended")).toBeVisible();
  await userEvent.keyboard("2");
  expect(await screen.findByText("It was not started, so it left nothing.")).toBeVisible();
});

it("says what a chore on a warm worker left, and what it did not", async () => {
  const attempt = { ...makeAttempt(2), reason: null, jobid: null, is_pooled: true, detail: "" };
  server.use(
    answer(
      CHORE_URL,
      makeAnswer({
        chore: makeChore({ id: ID, state: "completed", attempt: 2, started_at: 1772362801 }),
        attempts: [makeAttempt(1), attempt],
        environment_names: ["OMP_NUM_THREADS", "SEED"],
      }),
    ),
    refuse(`${CHORE_URL}/metadata`, 500, "was asked for"),
    refuse(`${CHORE_URL}/artifacts`, 404, "there are no files"),
    refuse(`${CHORE_URL}/log`, 404, "there is no stdout"),
  );
  const { container } = openPage(CHORE_URL);
  expect(await screen.findByText("a warm worker")).toBeVisible();
  expect(screen.getByText("Ran on")).toBeVisible();
  const attempts = within(screen.getByRole("region", { name: "All attempts" }));
  expect(attempts.getByRole("cell", { name: "warm worker" })).toBeVisible();
  expect(await screen.findByText("relax(…)")).toBeVisible();
  expect(screen.getByText(/Its arguments are 812 B of pickle/)).toBeVisible();
  expect(screen.getByText("OMP_NUM_THREADS, SEED")).toBeVisible();
  await expectAccessible(container);
  await userEvent.keyboard("2");
  expect(await screen.findByText("Nothing was printed.")).toBeVisible();
  await userEvent.keyboard("4");
  expect(await screen.findByText(/There are none to show/)).toBeVisible();
});

it.each([
  ["running", 1772362801, "Runs on"],
  ["submitted", null, "Given to"],
] as const)("says what a chore that is %s was given to", async (state, started_at, word) => {
  const chore = makeChore({ id: ID, state, attempt: 1, started_at });
  server.use(answer(CHORE_URL, makeAnswer({ chore, attempts: [{ ...makeAttempt(1), reason: null }] })));
  openPage(CHORE_URL);
  const place = await screen.findByText("a job of its own");
  expect(place.previousSibling).toHaveTextContent(word);
});

it("offers its files, and says why one is not there", async () => {
  const { container } = openPage(`${CHORE_URL}?tab=files&attempt=1`);
  const link = within(await screen.findByRole("region", { name: "All files" })).getByRole("link");
  expect(link.getAttribute("href")).toContain(`/chores/${ID}/download?file=stdout&attempt=1`);
  expect(screen.getByText("1.2 kB")).toBeVisible();
  expect(screen.getByText("it is not there")).toBeVisible();
  await expectAccessible(container);
});

it("offers to retry it where that is allowed", async () => {
  server.use(
    answer("/settings", { version: "0.6.0", root: "~", is_single_run: false, allow_actions: true }),
  );
  openPage(CHORE_URL);
  expect(await screen.findByRole("button", { name: "Retry" })).toBeVisible();
  expect(screen.queryByRole("button", { name: "Cancel" })).toBeNull();
});

it("says that there is no such chore", async () => {
  server.use(refuse(CHORE_URL, 404, "has no chore of that id"));
  openPage(CHORE_URL);
  expect(await screen.findByText("has no chore of that id")).toBeVisible();
});

it("shows a log as text with its colours, by the address", async () => {
  server.use(
    answerBy(`${CHORE_URL}/log`, (url) =>
      makeLog(`from ${url.searchParams.get("stream") ?? ""} \x1b[31mred\x1b[0m\n<script>alert(1)</script>\n10%\r99%\n`),
    ),
  );
  const { container } = openPage(`${CHORE_URL}?tab=stderr&attempt=1`);
  expect(await screen.findByText("red")).toHaveClass("ansi-ink-1");
  expect(screen.getByText("from stderr")).toBeVisible();
  expect(screen.getByText("<script>alert(1)</script>")).toBeVisible();
  expect(screen.getByText("99%")).toBeVisible();
  expect(container.querySelector("script")).toBeNull();
  expect(screen.getByText(/^All .* 3 lines$/)).toBeVisible();
  await expectAccessible(container);
});

it("looks for a text in the whole log, and goes from match to match", async () => {
  const text = "one\nNeedle\ntwo\nneedle\n";
  server.use(
    answer(`${CHORE_URL}/log`, makeLog(text)),
    answerBy(`${CHORE_URL}/log/search`, (url) =>
      url.searchParams.get("offset") === "0"
        ? { stream: "stdout", attempt: 2, offsets: [4], next_offset: 10, size: 22 }
        : { stream: "stdout", attempt: 2, offsets: [15], next_offset: null, size: 22 },
    ),
  );
  const { container } = openPage(`${CHORE_URL}?tab=stdout`);
  await screen.findByText("two");
  await userEvent.keyboard("/");
  await userEvent.keyboard("needle{Enter}");
  expect(await screen.findByText("1 of 1+")).toBeVisible();
  await waitFor(() => {
    expect(container.querySelector(".is-found")).toHaveTextContent("Needle");
  });
  expect(container.querySelectorAll("mark")).toHaveLength(2);
  await userEvent.keyboard("{Enter}");
  expect(await screen.findByText("2 of 2")).toBeVisible();
  await waitFor(() => {
    expect(container.querySelector(".is-found")).toHaveTextContent("needle");
  });
  await userEvent.keyboard("{Shift>}{Enter}{/Shift}");
  expect(await screen.findByText("1 of 2")).toBeVisible();
  await userEvent.keyboard("{Escape}");
  expect(container.querySelector("mark")).toBeNull();
});

it("reads the last lines when the chore ends", async () => {
  const running = makeAnswer({ chore: { ...FAILED, state: "running", reason: null } });
  let text = "first\n";
  server.use(
    answer(CHORE_URL, running),
    answerBy(`${CHORE_URL}/log`, (url) => {
      const from = Number(url.searchParams.get("mark") ?? 0);
      return makeLog(text.slice(from), { start: from, end: text.length, size: text.length, mark: String(text.length) });
    }),
  );
  openPage(`${CHORE_URL}?tab=stdout`);
  expect(await screen.findByText("first")).toBeVisible();
  expect(screen.getByText(/still being written/)).toBeVisible();
  text += "last\n";
  server.use(answer(CHORE_URL, makeAnswer()));
  FakeEventSource.latest().say("run", { run: makeRun(), generation: 1 });
  expect(await screen.findByText("last")).toBeVisible();
  expect(screen.queryByText(/still being written/)).toBeNull();
});

it("says that nothing was printed, or that there is no file", async () => {
  server.use(answer(`${CHORE_URL}/log`, makeLog("")));
  openPage(`${CHORE_URL}?tab=stdout`);
  expect(await screen.findByText("Nothing was printed.")).toBeVisible();
  server.use(refuse(`${CHORE_URL}/log`, 404, "no file"));
  await userEvent.keyboard("3");
  expect(await screen.findByText("There is no such file.")).toBeVisible();
});
