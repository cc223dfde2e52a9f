import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { act, render, screen, within } from "@testing-library/react";
import axe from "axe-core";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { POLL_MILLISECONDS } from "../api/useRunStatus";
import { MAX_ROWS } from "../components/GroupTable";
import { RunPage } from "../pages/RunPage";
import {
  answer,
  makeCounts,
  makeFinished,
  makeStatus,
  NOW,
  refuseConnections,
  serve,
} from "./fixtures";

beforeEach(() => {
  vi.useFakeTimers({ now: NOW });
});

afterEach(() => {
  vi.useRealTimers();
});

async function show() {
  const view = render(
    <QueryClientProvider client={new QueryClient()}>
      <RunPage />
    </QueryClientProvider>,
  );
  await act(() => vi.advanceTimersByTimeAsync(0));
  return view;
}

async function pass(milliseconds: number) {
  await act(() => vi.advanceTimersByTimeAsync(milliseconds));
}

/** Let one poll and its answer pass; the answer takes a few turns of the event loop. */
async function poll() {
  await pass(POLL_MILLISECONDS + 10);
}

function rowOf(name: string): string[] {
  const row = screen.getByRole("rowheader", { name }).closest("tr");
  if (row === null) {
    throw new Error(`${name} stands in no row`);
  }
  return within(row)
    .getAllByRole("cell")
    .map((cell) => cell.textContent);
}

function factOf(name: string): string | null | undefined {
  return screen.queryByText(name, { selector: "dt" })?.parentElement?.querySelector("dd")?.textContent;
}

describe("a run that is alive", () => {
  it("shows its name, state and progress", async () => {
    serve(() => answer(makeStatus()));
    await show();
    expect(screen.getByRole("heading", { level: 1 })).toHaveTextContent(
      "matensemble_workflow-20260301_105551",
    );
    expect(screen.getByText("Running")).toBeVisible();
    expect(screen.getByText("500 of 1,000 chores ended")).toBeVisible();
    expect(screen.getByRole("progressbar", { name: "All chores" })).toHaveAttribute(
      "aria-valuetext",
      "50%: 490 completed, 10 failed, 20 running, 480 pending",
    );
    expect(document.title).toBe("50% running · matensemble_workflow-20260301_105551");
  });

  it("shows the counts by group", async () => {
    serve(() => answer(makeStatus()));
    await show();
    expect(rowOf("relax")).toEqual(["55%", "380", "20", "490", "5", "0", "895"]);
    expect(rowOf("fit")).toEqual(["4%", "100", "0", "0", "5", "0", "105"]);
  });

  it("shows what it holds and how fast it goes", async () => {
    serve(() => answer(makeStatus()));
    await show();
    expect(factOf("Cores busy")).toBe("160 of 192");
    expect(factOf("GPUs busy")).toBeUndefined();
    expect(factOf("Rate")).toBe("30 / min");
    expect(factOf("Left, at this rate")).toBe("about 16 min 40 s");
    expect(factOf("Running for")).toBe("1 h 04 min");
    expect(factOf("Executor")).toBe("flux, 3 nodes");
  });

  it("draws bars whose parts follow one another", async () => {
    serve(() => answer(makeStatus()));
    const { container } = await show();
    const parts = [...container.querySelectorAll(".progress .bar rect")].map((rect) => [
      rect.getAttribute("x"),
      rect.getAttribute("width"),
    ]);
    expect(parts).toEqual([
      ["0%", "49%"],
      ["49%", "1%"],
      ["50%", "0%"],
      ["50%", "2%"],
    ]);
  });

  it("shows root failures, hostile text included, as text", async () => {
    serve(() => answer(makeStatus()));
    await show();
    expect(rowOf("chore-relax-0017")).toEqual(["nonzero exit", "3", "<b>lost atoms</b>"]);
    expect(rowOf("chore-relax-0042")).toEqual(["exception", "–", "KeyError: 'a'"]);
    expect(
      screen.getByText(
        "5 chores failed of their own; 5 chores could not run because of them. Showing the first 2 of 5.",
      ),
    ).toBeVisible();
  });

  it("does not cut a long list of groups silently", async () => {
    const names = Array.from({ length: MAX_ROWS + 20 }, (_, index) => `group${index}`);
    const groups = Object.fromEntries(names.map((name) => [name, makeCounts({ pending: 1 })]));
    serve(() => answer(makeStatus({ groups })));
    await show();
    expect(screen.getByText(/Showing 100 of 120 groups/)).toBeVisible();
    act(() => {
      screen.getByRole("button", { name: "Show all" }).click();
    });
    expect(screen.getByRole("rowheader", { name: "group119" })).toBeVisible();
    expect(screen.queryByText(/Showing/)).toHaveTextContent("Showing the first 2 of 5");
  });

  it("counts time by the server's clock", async () => {
    serve(() => {
      const response = answer(
        makeStatus({
          started_at: "2026-03-01T12:30:00+00:00",
          updated_at: "2026-03-01T12:59:58+00:00",
        }),
      );
      response.headers.set("date", "Sun, 01 Mar 2026 13:00:00 GMT");
      return response;
    });
    await show();
    expect(factOf("Running for")).toBe("30 min 0 s");
    expect(screen.queryByText("No news from the driver")).toBeNull();
    await pass(1000);
    expect(factOf("Running for")).toBe("30 min 1 s");
  });
});

describe("polling", () => {
  it("goes on while the run is alive", async () => {
    const server = serve(
      () => answer(makeStatus()),
      () => answer(makeStatus({ state: "paused" })),
    );
    await show();
    expect(server).toHaveBeenCalledTimes(1);
    await poll();
    expect(screen.getByText("Paused")).toBeVisible();
    await poll();
    await poll();
    expect(server).toHaveBeenCalledTimes(4);
  });

  it("looks once more after the end, and then no more", async () => {
    const server = serve(
      () => answer(makeStatus()),
      () => answer(makeFinished({ detail: "almost" })),
      () => answer(makeFinished({ detail: "all done" })),
    );
    await show();
    await poll();
    expect(screen.getByText("almost")).toBeVisible();
    await poll();
    expect(screen.getByText("all done")).toBeVisible();
    await pass(20 * POLL_MILLISECONDS);
    expect(server).toHaveBeenCalledTimes(3);
    expect(factOf("Took")).toBe("1 h 04 min");
    expect(factOf("Rate")).toBeUndefined();
    expect(screen.getByText("Completed")).toBeVisible();
  });

  it("stops where the link is missing", async () => {
    const server = serve(() => answer({ title: "Unauthorized", detail: "Open the link" }, 401));
    await show();
    expect(screen.getByText("This page needs its link")).toBeVisible();
    await pass(5 * POLL_MILLISECONDS);
    expect(server).toHaveBeenCalledTimes(1);
  });
});

describe("silence", () => {
  it("is told while it is short", async () => {
    serve(() => answer(makeStatus({ updated_at: "2026-03-01T11:59:15+00:00" })));
    await show();
    expect(screen.getByText("No news from the driver")).toBeVisible();
    expect(screen.getByText(", 45 s ago")).toBeVisible();
    expect(screen.queryByRole("alert")).toBeNull();
  });

  it("is an alert when it is long", async () => {
    serve(() => answer(makeStatus({ updated_at: "2026-03-01T11:30:00+00:00" })));
    await show();
    expect(screen.getByRole("alert")).toHaveTextContent("process 4711 on node017");
    expect(factOf("Left, at this rate")).toBeUndefined();
    expect(factOf("Ran until the last news")).toBe("34 min 9 s");
  });

  it("turns from live to late while nothing arrives", async () => {
    serve(() => answer(makeStatus()));
    await show();
    expect(screen.queryByText("No news from the driver")).toBeNull();
    await pass(30_000);
    expect(screen.getByText("No news from the driver")).toBeVisible();
  });
});

describe("trouble", () => {
  it("keeps the last numbers when the server goes, and mends itself", async () => {
    serve(
      () => answer(makeStatus()),
      refuseConnections,
      () => answer(makeFinished()),
    );
    await show();
    await poll();
    expect(screen.getByRole("alert")).toHaveTextContent("The dashboard does not answer");
    expect(screen.getByText("500 of 1,000 chores ended")).toBeVisible();
    await poll();
    expect(screen.queryByRole("alert")).toBeNull();
    expect(screen.getByText("Completed")).toBeVisible();
  });

  it("waits for a run that has not started", async () => {
    serve(
      () => answer({ title: "Not Found", detail: "this run has not been started yet" }, 404),
      () => answer(makeStatus()),
    );
    await show();
    expect(screen.getByText("Nothing has run yet")).toBeVisible();
    expect(screen.getByText("this run has not been started yet")).toBeVisible();
    await poll();
    expect(screen.getByText("Running")).toBeVisible();
  });

  it("says why a status cannot be read", async () => {
    serve(() => answer({ title: "Service Unavailable", detail: "is no JSON" }, 503));
    await show();
    expect(screen.getByRole("alert")).toHaveTextContent("is no JSON");
  });

  it("has words for the time before the first answer", () => {
    serve(() => answer(makeStatus()));
    render(
      <QueryClientProvider client={new QueryClient()}>
        <RunPage />
      </QueryClientProvider>,
    );
    expect(screen.getByText("Reading the status…")).toBeVisible();
  });
});

describe("accessibility", () => {
  it.each([
    ["a live run", () => answer(makeStatus())],
    ["a finished run", () => answer(makeFinished())],
    ["a run without chores", () => answer(makeStatus({ groups: {}, counts: makeCounts() }))],
    ["an error", () => answer({ title: "Not Found", detail: "not yet" }, 404)],
  ])("has no fault that axe finds in %s", async (_name, respond) => {
    serve(respond);
    const { container } = await show();
    vi.useRealTimers();
    // jsdom draws nothing, so contrast cannot be measured here.
    const { violations } = await axe.run(container, { rules: { "color-contrast": { enabled: false } } });
    expect(violations.map(({ id }) => id)).toEqual([]);
  });
});
