import { act, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, it } from "vitest";

import { FakeEventSource } from "./eventSource";
import { makeFinished } from "./fixtures";
import { expectAccessible, openPage } from "./page";
import { answer, answerBy, cut, makeRun, refuse, RUN_ID, RUN_URL, server } from "./server";

const SETTINGS = { version: "0.6.0", root: "~/study", is_single_run: false };
const LOST = makeRun(
  {},
  {
    health: "lost",
    problem: "its process 4711 is gone",
    advice: "Nothing more will happen by itself. To go on with it:",
    command: "matensemble resume /study/run",
  },
);

describe("the head of a run", () => {
  it("says its name, state and share, on the tab too", async () => {
    const { container } = openPage(RUN_URL);
    expect(await screen.findByRole("heading", { level: 1, name: RUN_ID })).toBeVisible();
    expect(await screen.findByText("Running")).toBeVisible();
    await waitFor(() => {
      expect(document.title).toBe(`50% running · ${RUN_ID}`);
    });
    await expectAccessible(container);
  });

  it("leads to the pages of the run by link and by key", async () => {
    const { router } = openPage(RUN_URL);
    await screen.findByRole("link", { name: "Chores" });
    await userEvent.keyboard("gp");
    await waitFor(() => {
      expect(router.state.location.pathname).toBe(`${RUN_URL}/report`);
    });
    await userEvent.click(screen.getByRole("link", { name: /^Failures/ }));
    await waitFor(() => {
      expect(router.state.location.pathname).toBe(`${RUN_URL}/failures`);
    });
  });

  it("lists the shortcuts behind ?", async () => {
    openPage(RUN_URL);
    await screen.findByRole("link", { name: "Chores" });
    await userEvent.keyboard("{Shift>}?{/Shift}");
    expect(screen.getByRole("dialog", { name: "Keyboard shortcuts" })).toHaveTextContent("Go to Chores");
  });

  it("tells of a lost driver, and why", async () => {
    server.use(answer(RUN_URL, LOST));
    const { container } = openPage(RUN_URL);
    const notice = await screen.findByRole("alert");
    expect(notice).toHaveTextContent("Its process 4711 is gone.");
    expect(notice).toHaveTextContent("Last sign of life: 1 Mar 2026");
    expect(notice).toHaveTextContent("To go on with it: matensemble resume /study/run");
    await expectAccessible(container);
  });

  it("puts the command that resumes a run into the clipboard", async () => {
    const user = userEvent.setup();
    server.use(answer(RUN_URL, LOST));
    openPage(RUN_URL);
    await user.click(await screen.findByRole("button", { name: "Copy" }));
    expect(await screen.findByRole("button", { name: "Copied" })).toBeVisible();
    expect(await navigator.clipboard.readText()).toBe("matensemble resume /study/run");
  });

  it.each([
    [makeRun(), ["Pause", "Cancel run", "Retry failed"]],
    [makeRun({ state: "paused", num_root_failures: 0 }), ["Unpause", "Cancel run"]],
    [makeRun(makeFinished(), { health: "ended" }), []],
    [makeRun({}, { health: "lost" }), ["Retry failed"]],
  ])("offers what can be asked of a run as it stands (%#)", async (run, names) => {
    server.use(answer(RUN_URL, run), answer("/settings", { ...SETTINGS, allow_actions: true }));
    openPage(RUN_URL);
    await screen.findByRole("link", { name: "Chores" });
    const head = screen.getByRole("main");
    await waitFor(() => {
      expect(within(head).queryAllByRole("button").map((button) => button.textContent)).toEqual(names);
    });
  });

  it("keeps saying what was done when there is nothing more of that to do", async () => {
    server.use(
      answer("/settings", { ...SETTINGS, allow_actions: true }),
      answerBy(`${RUN_URL}/actions`, () => ({ id: "r1", note: "", command: null }), "post"),
      answer(`${RUN_URL}/actions/r1`, { state: "done", text: "will run again: 5 chores" }),
    );
    openPage(RUN_URL);
    await userEvent.click(await screen.findByRole("button", { name: "Retry failed" }));
    await userEvent.click(within(screen.getByRole("dialog")).getByRole("button", { name: "Retry failed" }));
    FakeEventSource.latest().say("run", { run: makeRun({ num_root_failures: 0 }), generation: 1 });
    expect(await screen.findByText("will run again: 5 chores", {}, { timeout: 4000 })).toBeVisible();
    expect(screen.queryByRole("button", { name: "Retry failed" })).toBeNull();
  });

  it("says what is wrong where the run is not there", async () => {
    server.use(refuse(RUN_URL, 404, "is not the name of a run"));
    openPage(RUN_URL);
    expect(await screen.findByText("is not the name of a run")).toBeVisible();
  });

  it("asks for the link where the key is missing", async () => {
    server.use(refuse(RUN_URL, 401, "Open the link"));
    openPage(RUN_URL);
    expect(await screen.findByText("This page needs its link")).toBeVisible();
  });

  it("says so when nobody answers", async () => {
    server.use(cut(RUN_URL));
    openPage(RUN_URL);
    expect(await screen.findByRole("alert")).toHaveTextContent("The dashboard does not answer");
  });
});

it("says that an address is none, and does not call it a fault", async () => {
  openPage("/nowhere");
  expect(await screen.findByRole("heading", { name: "There is no such page" })).toBeVisible();
});

describe("the stream", () => {
  it("brings what is new", async () => {
    openPage(RUN_URL);
    await screen.findByText("Running");
    FakeEventSource.latest().say("run", { run: makeRun({ state: "paused" }), generation: 1 });
    expect(await screen.findByText("Paused")).toBeVisible();
    expect(screen.getByText("live")).toBeVisible();
  });

  it("ends with the run", async () => {
    openPage(RUN_URL);
    await screen.findByText("Running");
    const stream = FakeEventSource.latest();
    stream.say("run", { run: makeRun(makeFinished(), { health: "ended" }), generation: 2 });
    stream.say("ended");
    expect(await screen.findByText("Completed")).toBeVisible();
    expect(stream.isClosed).toBe(true);
    expect(FakeEventSource.opened).toHaveLength(1);
  });

  it("is given back while the page is hidden, and taken again", async () => {
    openPage(RUN_URL);
    await screen.findByText("Running");
    const first = FakeEventSource.latest();
    hide(true);
    expect(first.isClosed).toBe(true);
    hide(false);
    expect(FakeEventSource.latest()).not.toBe(first);
  });

  it("says that it was cut", async () => {
    openPage(RUN_URL);
    await screen.findByText("Running");
    FakeEventSource.latest().say("error");
    expect(await screen.findByText("reconnecting…")).toBeVisible();
  });
});

function hide(isHidden: boolean): void {
  Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
  act(() => {
    document.dispatchEvent(new Event("visibilitychange"));
  });
}
