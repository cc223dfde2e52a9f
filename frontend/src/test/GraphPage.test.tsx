import { fireEvent, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, describe, expect, it, vi } from "vitest";

import { arrange, type Arrangement } from "../components/graph/arrange";
import { makeChoreGraph, makeGroupGraph, makeWindow } from "./graphs";
import { expectAccessible, openPage } from "./page";
import { answer, answerBy, refuse, RUN_URL, server } from "./server";

// The worker is a browser's; where nodes stand does not matter here.
vi.mock("../components/graph/arrange", () => ({ arrange: vi.fn() }));

const GRAPH = `${RUN_URL}/graph`;

beforeEach(() => {
  vi.mocked(arrange).mockImplementation((boxes, links) =>
    Promise.resolve<Arrangement>({
      width: 600,
      height: 100,
      boxes: new Map(boxes.map(({ id }, place) => [id, { x: 250 * place, y: 0 }])),
      links: new Map(links.map(({ id }) => [id, { corners: [], label: null }])),
    }),
  );
});

describe("the groups", () => {
  it("are drawn as links to their chores and failures, with a table that says the same", async () => {
    server.use(answer(`${GRAPH}/groups`, makeGroupGraph()));
    const { container } = openPage(GRAPH);
    const relax = await screen.findByRole("link", { name: "relax, 1,000" });
    expect(relax).toHaveAttribute("href", `${RUN_URL}/chores?group=relax`);
    expect(screen.getByRole("link", { name: "10 failed" })).toHaveAttribute(
      "href",
      `${RUN_URL}/chores?group=relax&state=failed`,
    );
    expect(screen.queryByRole("table")).toBeNull();
    await userEvent.click(screen.getByText("As a table"));
    const [, first, second] = within(await screen.findByRole("table")).getAllByRole("row");
    expect(first).toHaveTextContent("relax990 completed, 10 failed–md");
    expect(second).toHaveTextContent("md80 pending, 900 completed, 20 skippedrelax–");
    await expectAccessible(container);
  });

  it("tell what is left out", async () => {
    server.use(answer(`${GRAPH}/groups`, makeGroupGraph({ num_left_out: 12, num_edges_left_out: 40 })));
    openPage(GRAPH);
    expect(await screen.findByText(/12 smaller groups left out/)).toHaveTextContent("40 connections");
  });

  it("say that there are none yet, or what went wrong", async () => {
    server.use(answer(`${GRAPH}/groups`, makeGroupGraph({ groups: [], edges: [] })));
    const { unmount } = openPage(GRAPH);
    expect(await screen.findByText("No chores yet.")).toBeVisible();
    unmount();
    server.use(refuse(`${GRAPH}/groups`, 422, "the index is broken"));
    openPage(GRAPH);
    expect(await screen.findByText("the index is broken")).toBeVisible();
  });

  it("say where an arrangement failed, and keep the table", async () => {
    vi.mocked(arrange).mockRejectedValue(new Error("no memory"));
    server.use(answer(`${GRAPH}/groups`, makeGroupGraph()));
    openPage(GRAPH);
    expect(await screen.findByText(/no memory/)).toBeVisible();
    expect(screen.getByText("As a table")).toBeVisible();
  });
});

describe("what is around a chore", () => {
  const asked: string[] = [];

  beforeEach(() => {
    asked.length = 0;
    server.use(
      answerBy(`${GRAPH}/neighbourhood`, ({ searchParams }) => {
        asked.push(["chore", "up", "down"].map((name) => searchParams.get(name)).join(" "));
        return makeChoreGraph({ num_left_out: 7 });
      }),
    );
  });

  it("is drawn with what is left out", async () => {
    const { container } = openPage(`${GRAPH}?chore=chore-md-0001&up=1`);
    const centre = await screen.findByRole("link", { name: "chore-md-0001, completed" });
    expect(centre).toHaveAttribute("aria-current", "true");
    expect(screen.getByText(/7 connections to chores/)).toBeVisible();
    expect(screen.getByTitle("7 more downstream, not drawn")).toBeVisible();
    expect(asked).toEqual(["chore-md-0001 1 2"]);
    await expectAccessible(container);
  });

  it("goes to a chore by click, and opens it by Enter", async () => {
    server.use(refuse(`${RUN_URL}/chores/chore-relax-0001`, 404, "not in this test"));
    const { router } = openPage(`${GRAPH}?chore=chore-md-0001`);
    const relax = await screen.findByRole("link", { name: "chore-relax-0001, failed" });
    fireEvent.click(relax, { detail: 1 });
    await waitFor(() => {
      expect(router.state.location.search).toBe("?view=chore&chore=chore-relax-0001");
    });
    const again = await screen.findByRole("link", { name: "chore-relax-0001, failed" });
    again.focus();
    await userEvent.keyboard("{Enter}");
    await waitFor(() => {
      expect(router.state.location.pathname).toBe(`${RUN_URL}/chores/chore-relax-0001`);
    });
  });

  it("is asked for as far as one wants to go", async () => {
    const { router } = openPage(`${GRAPH}?chore=chore-md-0001`);
    const steps = await screen.findByRole("spinbutton", { name: "Steps downstream" });
    await userEvent.clear(steps);
    await userEvent.type(steps, "5");
    await waitFor(() => {
      expect(router.state.location.search).toContain("down=5");
    });
    await waitFor(() => {
      expect(asked).toContain("chore-md-0001 2 5");
    });
  });

  it("is of a chore that is found by a part of its id", async () => {
    server.use(
      answerBy(`${RUN_URL}/chores`, ({ searchParams }) => ({
        chores: searchParams.get("text") === "md" ? [{ id: "chore-md-0001" }, { id: "chore-md-0002" }] : [],
        total: 2,
        next: null,
        freshness: { is_complete: true, share: 1, problem: "" },
      })),
    );
    const { router, container } = openPage(`${GRAPH}?view=chore`);
    await userEvent.type(await screen.findByRole("combobox", { name: "Chore" }), "md");
    await waitFor(() => {
      expect(container.querySelectorAll("option")).toHaveLength(2);
    });
    await userEvent.click(screen.getByRole("button", { name: "Show" }));
    await waitFor(() => {
      expect(router.state.location.search).toBe("?view=chore&chore=chore-md-0001");
    });
  });
});

describe("failures", () => {
  const none = { num_failures: 0, num_failures_left_out: 0 };

  it("are drawn with what led to them, and how many are not", async () => {
    server.use(answer(`${GRAPH}/failed`, { ...makeChoreGraph(), num_failures: 90, num_failures_left_out: 23 }));
    const { container } = openPage(`${GRAPH}?view=failed`);
    expect(await screen.findByText("Showing the first 67 of 90 failures.")).toBeVisible();
    expect(await screen.findByRole("link", { name: "chore-relax-0001, failed" })).toBeVisible();
    await expectAccessible(container);
  });

  it("are none where nothing failed", async () => {
    server.use(answer(`${GRAPH}/failed`, { ...makeChoreGraph({ nodes: [], edges: [] }), ...none }));
    openPage(`${GRAPH}?view=failed`);
    expect(await screen.findByText("Nothing has failed.")).toBeVisible();
  });
});

describe("the whole graph", () => {
  it("says what it draws, and opens its chores from the table", async () => {
    server.use(
      answer(`${GRAPH}/whole`, makeWindow({ num_lines_left_out: 3, num_gathers_left_out: 2 })),
      answerBy(`${GRAPH}/at`, ({ searchParams }) => ({
        chore: { id: `chore-${searchParams.get("level") ?? ""}-${searchParams.get("rank") ?? ""}` },
        freshness: { is_complete: true, share: 1, problem: "" },
      })),
      refuse(`${RUN_URL}/chores/chore-1-1`, 404, "not in this test"),
    );
    const { container, router } = openPage(`${GRAPH}?view=whole`);
    expect(await screen.findByText(/2 levels from left to right/)).toHaveTextContent("3 in the window.");
    expect(screen.getByText(/3 connections to what is out of the window/)).toBeVisible();
    expect(screen.getByText(/gathered as a whole; 2 times/)).toBeVisible();
    await userEvent.click(screen.getByText("As a table"));
    await screen.findByRole("table");
    await expectAccessible(container);
    await userEvent.click(screen.getByRole("button", { name: "Open the chore at level 1, rank 1" }));
    await waitFor(() => {
      expect(router.state.location.pathname).toBe(`${RUN_URL}/chores/chore-1-1`);
    });
  });

  it("counts by cells where there are too many", async () => {
    const cells = { num_levels: 64, num_ranks: 8, level: [0, 64], rank: [0, 0], counts: { completed: [400, 3], failed: [0, 2] } };
    server.use(
      answer(`${GRAPH}/whole`, makeWindow({ mode: "cells", points: null, lines: null, cells, num_levels: 1_000_000, num_chores: 405 })),
    );
    openPage(`${GRAPH}?view=whole`);
    expect(await screen.findByText(/1,000,000 levels/)).toHaveTextContent("too many to draw each");
    await userEvent.click(screen.getByText("As a table"));
    const rows = within(await screen.findByRole("table")).getAllByRole("row");
    expect(rows[2]).toHaveTextContent("64–1270–73 completed, 2 failed");
  });

  it("says that there is none yet", async () => {
    server.use(answer(`${GRAPH}/whole`, makeWindow({ num_levels: 0, num_ranks: 0 })));
    openPage(`${GRAPH}?view=whole`);
    expect(await screen.findByText("No chores yet.")).toBeVisible();
  });
});

it("leads from view to view", async () => {
  server.use(
    answer(`${GRAPH}/groups`, makeGroupGraph()),
    answer(`${GRAPH}/failed`, { ...makeChoreGraph(), num_failures: 1, num_failures_left_out: 0 }),
  );
  const { router } = openPage(GRAPH);
  const views = within(await screen.findByRole("navigation", { name: "Views of the graph" }));
  expect(views.getByRole("link", { name: "Groups" })).toHaveAttribute("aria-current", "page");
  await userEvent.click(views.getByRole("link", { name: "Failures" }));
  await waitFor(() => {
    expect(router.state.location.search).toBe("?view=failed");
  });
});
