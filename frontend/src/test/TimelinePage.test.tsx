import { act, fireEvent, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, it, vi } from "vitest";

import { MAX_TABLE_ROWS } from "../components/timeline/TimelineTable";
import { expectAccessible, openPage } from "./page";
import { answer, answerBy, refuse, RUN_URL, server } from "./server";
import { makeBar, makeLane, makeTimeline } from "./timelines";

const TIMELINE = `${RUN_URL}/timeline`;
const LANES = [
  makeLane({
    num_rows: 2,
    bars: [
      makeBar(),
      makeBar({ id: "chore-relax-0002", state: "failed", attempt: 2, row: 1, started_at: 1100, ended_at: 1100.25 }),
      makeBar({ id: "chore-relax-0003", state: "running", started_at: 1500, ended_at: null }),
    ],
  }),
  makeLane({ name: "" }),
];
let asked: URLSearchParams[];

beforeEach(() => {
  asked = [];
  server.use(
    answerBy(TIMELINE, ({ searchParams }) => {
      asked.push(searchParams);
      return makeTimeline({ lanes: LANES, by: searchParams.get("by") === "group" ? "group" : "host" });
    }),
  );
});

it("says what ran where, in a table beside the drawing", async () => {
  const { container } = openPage(TIMELINE);
  expect(await screen.findByRole("link", { name: "node1" })).toHaveAttribute("href", `${RUN_URL}/chores?host=node1`);
  expect(screen.getByText("host not known")).toBeVisible();
  expect(screen.queryByRole("table")).toBeNull();
  await userEvent.click(screen.getByText("As a table"));
  const rows = within(await screen.findByRole("table")).getAllByRole("row");
  expect(rows[2]).toHaveTextContent("node1chore-relax-00022failed");
  expect(rows[2]).toHaveTextContent("0.25 s");
  expect(rows[3]).toHaveTextContent("8 min 20 s so far");
  expect(screen.getByRole("link", { name: "chore-relax-0002" })).toHaveAttribute(
    "href",
    `${RUN_URL}/chores/chore-relax-0002`,
  );
  await expectAccessible(container);
});

it("asks for a window after it has stood still, and puts it into the address", async () => {
  const { router } = openPage(TIMELINE);
  await userEvent.click(await screen.findByRole("button", { name: "Zoom in" }));
  await userEvent.click(screen.getByRole("button", { name: "Zoom in" }));
  await waitFor(() => {
    expect(router.state.location.search).toBe("?start=1375&end=1625");
  });
  await waitFor(() => {
    expect(asked.map((question) => question.get("start"))).toEqual([null, "1375"]);
  });
  await userEvent.click(screen.getByRole("button", { name: "Whole run" }));
  await waitFor(() => {
    expect(router.state.location.search).toBe("");
  });
});

it("moves by keys", async () => {
  const { router } = openPage(`${TIMELINE}?start=1400&end=1600`);
  const area = await screen.findByRole("region", { name: /^Timeline, drawn/ });
  fireEvent.keyDown(area, { key: "-" });
  await waitFor(() => {
    expect(router.state.location.search).toBe("?start=1350&end=1650");
  });
});

it("turns to groups, and forgets the page of lanes", async () => {
  const { router } = openPage(`${TIMELINE}?lane=25`);
  await userEvent.click(await screen.findByRole("radio", { name: "By group" }));
  await waitFor(() => {
    expect(router.state.location.search).toBe("?by=group");
  });
  await waitFor(() => {
    expect(asked.at(-1)?.get("by")).toBe("group");
  });
});

it("pages through lanes, and says how many there are", async () => {
  const lanes = Array.from({ length: 25 }, (_, place) => makeLane({ name: `node${place}` }));
  server.use(
    answerBy(TIMELINE, ({ searchParams }) =>
      makeTimeline({ lanes, num_lanes: 60, lane_offset: Number(searchParams.get("lane_offset")) }),
    ),
  );
  const { router } = openPage(TIMELINE);
  expect(await screen.findByText(/Hosts 1–25 of 60/)).toBeVisible();
  await userEvent.click(screen.getByRole("button", { name: "Next" }));
  expect(await screen.findByText(/Hosts 26–50 of 60/)).toBeVisible();
  expect(router.state.location.search).toBe("?lane=25");
});

it("tells how many ran where bars would be too many", async () => {
  server.use(
    answer(
      TIMELINE,
      makeTimeline({
        mode: "occupancy",
        bin_seconds: 100,
        at: [1000, 1100, 1200],
        lanes: [makeLane({ running: [0, 31.5, 12], failed: [0, 1, 2] })],
        num_bars: 40_000,
      }),
    ),
  );
  const { container } = openPage(TIMELINE);
  expect(await screen.findByText(/About 40,000 attempts/)).toHaveTextContent("a full lane is 31.5");
  await userEvent.click(screen.getByText("As a table"));
  const [, row] = within(await screen.findByRole("table")).getAllByRole("row");
  expect(row).toHaveTextContent(/^node114.531.5.*3$/);
  await expectAccessible(container);
});

it("puts no more rows on the page than can be read", async () => {
  const bars = Array.from({ length: MAX_TABLE_ROWS + 5 }, (_, place) => makeBar({ id: `chore-${place}` }));
  server.use(answer(TIMELINE, makeTimeline({ lanes: [makeLane({ bars })] })));
  openPage(TIMELINE);
  await userEvent.click(await screen.findByText("As a table"));
  expect(await screen.findByText(/Showing 200 of 205 attempts/)).toBeVisible();
});

it("says that nothing has run yet, or what went wrong", async () => {
  server.use(answer(TIMELINE, makeTimeline({ lanes: [], run: { start: 0, end: 0, is_growing: false } })));
  const { unmount } = openPage(TIMELINE);
  expect(await screen.findByText("Nothing has run yet.")).toBeVisible();
  unmount();
  server.use(refuse(TIMELINE, 422, "the index is broken"));
  openPage(TIMELINE);
  expect(await screen.findByText("the index is broken")).toBeVisible();
});

it("tells what is under the pointer, and opens it by click", async () => {
  const resize: (() => void)[] = [];
  vi.stubGlobal(
    "ResizeObserver",
    class {
      constructor(listener: () => void) {
        resize.push(listener);
      }
      observe = vi.fn();
      disconnect = vi.fn();
    },
  );
  server.use(refuse(`${RUN_URL}/chores/chore-relax-0001`, 404, "not in this test"));
  const { router } = openPage(TIMELINE);
  const area = await screen.findByRole("region", { name: /^Timeline, drawn/ });
  Object.defineProperty(area, "clientWidth", { value: 1000 });
  act(() => {
    resize.forEach((listener) => {
      listener();
    });
  });
  fireEvent(area, new PointerEvent("pointermove", { bubbles: true, clientX: 50, clientY: 12 }));
  expect(await screen.findByText("chore-relax-0001")).toBeVisible();
  expect(screen.getByText(/attempt 1 on node1/)).toBeVisible();
  fireEvent(area, new PointerEvent("pointerdown", { bubbles: true, button: 0, clientX: 50, clientY: 12 }));
  fireEvent(area, new PointerEvent("pointerup", { bubbles: true, button: 0, clientX: 50, clientY: 12 }));
  await waitFor(() => {
    expect(router.state.location.pathname).toBe(`${RUN_URL}/chores/chore-relax-0001`);
  });
});
