import { act, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, it } from "vitest";

import { FakeEventSource } from "./eventSource";
import { makeFinished } from "./fixtures";
import { expectAccessible, openPage } from "./page";
import { answer, cut, makeRun, refuse, RUN_ID, RUN_URL, server } from "./server";

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
    await userEvent.keyboard("gu");
    await waitFor(() => {
      expect(router.state.location.pathname).toBe(`${RUN_URL}/utilisation`);
    });
    await userEvent.click(screen.getByRole("link", { name: "Graph" }));
    await waitFor(() => {
      expect(router.state.location.pathname).toBe(`${RUN_URL}/graph`);
    });
  });

  it("lists the shortcuts behind ?", async () => {
    openPage(RUN_URL);
    await screen.findByRole("link", { name: "Chores" });
    await userEvent.keyboard("{Shift>}?{/Shift}");
    expect(screen.getByRole("dialog", { name: "Keyboard shortcuts" })).toHaveTextContent("Go to Chores");
  });

  it("tells of a lost driver, and why", async () => {
    server.use(answer(RUN_URL, makeRun({}, { health: "lost", problem: "its process 4711 is gone" })));
    const { container } = openPage(RUN_URL);
    expect(await screen.findByRole("alert")).toHaveTextContent("its process 4711 is gone");
    await expectAccessible(container);
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
