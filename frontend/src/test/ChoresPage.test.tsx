import { act, fireEvent, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, it } from "vitest";

import "../pages/ChoresPage";
import { FRESH, giveElementsSize, makeChore, pageOf } from "./chores";
import { FakeEventSource } from "./eventSource";
import { expectAccessible, openPage } from "./page";
import { answer, answerBy, makeRun, refuse, RUN_URL, server } from "./server";

const PAGE_URL = `${RUN_URL}/chores`;

const CHORES = Array.from({ length: 1000 }, (_, index) => {
  const id = `chore-relax-${String(index).padStart(4, "0")}`;
  return index % 100 === 7
    ? makeChore({ id, state: "failed", reason: "nonzero_exit", exit_code: 3, detail: "<b>lost</b> atoms" })
    : makeChore({ id });
});

let asked: URLSearchParams[];

beforeEach(() => {
  giveElementsSize(150, 30);
  asked = [];
  server.use(
    answerBy(PAGE_URL, (url) => {
      asked.push(url.searchParams);
      return pageOf(CHORES, url);
    }),
    answer(`${RUN_URL}/groups`, {
      groups: [{ name: "relax", total: 1000, states: { completed: 990, failed: 10 } }],
      total: 1,
      freshness: FRESH,
    }),
    answer(`${RUN_URL}/utilisation`, { hosts: [{ name: "n1" }, { name: "n2" }] }),
  );
});

function rowOf(choreId: string): HTMLElement {
  const row = screen.getByText(choreId).closest("tr");
  if (row === null) {
    throw new Error(`${choreId} stands in no row`);
  }
  return row;
}

function table(): HTMLElement {
  return screen.getByRole("table");
}

it("shows the chores in a table that tells how long it is", async () => {
  openPage(PAGE_URL);
  const link = await screen.findByText("chore-relax-0000");
  expect(link).toHaveAttribute("href", `${PAGE_URL}/chore-relax-0000`);
  expect(screen.getByText("1,000 chores")).toBeVisible();
  expect(table()).toHaveAttribute("aria-rowcount", "1001");
  const row = rowOf("chore-relax-0007");
  expect(row).toHaveAttribute("aria-rowindex", "9");
  expect(within(row).getByText("nonzero exit")).toBeVisible();
  expect(within(row).getByText("<b>lost</b> atoms")).toHaveAttribute("title", "<b>lost</b> atoms");
  // Only those in the window are on the page.
  expect(table().querySelectorAll("tr").length).toBeLessThan(30);
});

it("can be used by everybody", async () => {
  const { container } = openPage(`${PAGE_URL}?text=000`);
  await screen.findByText("chore-relax-0007");
  await expectAccessible(container);
});

it("fetches pages as the reader scrolls, and keeps those near only", async () => {
  openPage(PAGE_URL);
  await screen.findByText("chore-relax-0000");
  const region = screen.getByRole("region", { name: "Chores" });
  for (const top of [3900, 10_000, 16_000, 22_000, 28_000]) {
    act(() => {
      region.scrollTop = top;
      fireEvent.scroll(region);
    });
    await screen.findByText(`chore-relax-0${Math.floor(top / 30)}`);
  }
  expect(screen.queryByText("chore-relax-0000")).toBeNull();
  expect(asked.map((query) => query.get("cursor"))).toEqual([null, "200", "400", "600", "800"]);
  // When the run goes on, only the beginning and what is seen are asked for again.
  const num = asked.length;
  const stream = FakeEventSource.latest();
  stream.say("run", { run: makeRun(), generation: 1 });
  await waitFor(() => {
    expect(asked.length).toBeGreaterThan(num);
  });
  expect(new Set(asked.slice(num).map((query) => query.get("cursor")))).toEqual(new Set([null, "800"]));
});

it("keeps its conditions in the address, and asks by them", async () => {
  const { router } = openPage(PAGE_URL);
  await screen.findByText("chore-relax-0000");
  await userEvent.selectOptions(screen.getByRole("combobox", { name: "State" }), "failed");
  expect(await screen.findByText("10 chores")).toBeVisible();
  expect(router.state.location.search).toBe("?state=failed");
  await userEvent.selectOptions(screen.getByRole("combobox", { name: "Group" }), "relax");
  await userEvent.selectOptions(await screen.findByRole("combobox", { name: "Host" }), "n2");
  await userEvent.click(screen.getByRole("checkbox", { name: "more than one attempt" }));
  await waitFor(() => {
    expect(asked.at(-1)?.toString()).toBe("state=failed&group=relax&host=n2&retried=true&limit=200");
  });
  const csv = screen.getByRole("link", { name: "CSV" }).getAttribute("href") ?? "";
  expect(csv).toContain("/chores?format=csv&state=failed&group=relax&host=n2&retried=true");
});

it("opens with the conditions of its address, also those of no field", async () => {
  openPage(`${PAGE_URL}?cluster=3&group=gone&reason=signal`);
  await screen.findByText("chore-relax-0000");
  expect(screen.getByRole("combobox", { name: "Group" })).toHaveValue("gone");
  expect(screen.getByRole("combobox", { name: "Reason" })).toHaveValue("signal");
  await userEvent.click(screen.getByRole("button", { name: /failures of kind 3/ }));
  await waitFor(() => {
    expect(asked.at(-1)?.get("cluster")).toBeNull();
  });
});

it("searches when the reader pauses, and clears with Escape", async () => {
  const { router } = openPage(PAGE_URL);
  await screen.findByText("chore-relax-0000");
  const num = asked.length;
  await userEvent.keyboard("/");
  await userEvent.keyboard("relax-0033");
  expect(screen.getByRole("searchbox")).toHaveFocus();
  expect(await screen.findByText("1 chore")).toBeVisible();
  expect(asked.slice(num).map((query) => query.get("text"))).toEqual(["relax-0033"]);
  expect(router.state.location.search).toBe("?text=relax-0033");
  await userEvent.keyboard("{Escape}");
  expect(await screen.findByText("1,000 chores")).toBeVisible();
  expect(screen.getByRole("searchbox")).not.toHaveFocus();
});

it("says that nothing matches, and offers all again", async () => {
  const { container } = openPage(`${PAGE_URL}?text=nothing`);
  expect(await screen.findByText("No chore matches all of these conditions.")).toBeVisible();
  await expectAccessible(container);
  await userEvent.click(screen.getByRole("button", { name: "Clear filters" }));
  expect(await screen.findByText("chore-relax-0000")).toBeVisible();
});

it("sorts by the names of columns, the longest first", async () => {
  const { router } = openPage(PAGE_URL);
  await userEvent.click(await screen.findByRole("button", { name: /duration/ }));
  await waitFor(() => {
    expect(asked.at(-1)?.toString()).toBe("sort=seconds&descending=true&limit=200");
  });
  expect(await screen.findByRole("columnheader", { name: /duration/, hidden: false })).toHaveAttribute(
    "aria-sort",
    "descending",
  );
  await userEvent.click(screen.getByRole("button", { name: /duration/ }));
  await waitFor(() => {
    expect(router.state.location.search).toBe("?sort=seconds");
  });
});

it("moves by j and k, and opens by Enter or a click", async () => {
  server.use(refuse(`${PAGE_URL}/chore-relax-0007`, 404, "has no chore of that id"));
  const { router } = openPage(PAGE_URL);
  await screen.findByText("chore-relax-0000");
  await userEvent.keyboard("jjjk");
  expect(screen.getByText("chore-relax-0001")).toHaveFocus();
  await userEvent.click(screen.getByText("<b>lost</b> atoms"));
  await waitFor(() => {
    expect(router.state.location.pathname).toBe(`${PAGE_URL}/chore-relax-0007`);
  });
});

it("comes back from a chore to the place in the table", async () => {
  server.use(refuse(`${PAGE_URL}/chore-relax-0107`, 404, "has no chore of that id"));
  const { router } = openPage(PAGE_URL);
  await screen.findByText("chore-relax-0000");
  const region = screen.getByRole("region", { name: "Chores" });
  act(() => {
    region.scrollTop = 3200;
    fireEvent.scroll(region);
  });
  await userEvent.click(await screen.findByText("chore-relax-0107"));
  await screen.findByText("has no chore of that id");
  await act(() => router.navigate(-1));
  expect(await screen.findByText("chore-relax-0107")).toBeVisible();
  expect(screen.queryByText("chore-relax-0000")).toBeNull();
});

it("offers to retry what the conditions leave, where that is allowed", async () => {
  server.use(
    answer("/settings", { version: "0.6.0", root: "~", is_single_run: false, allow_actions: true }),
  );
  openPage(`${PAGE_URL}?state=failed`);
  expect(await screen.findByRole("button", { name: "Retry these 10" })).toBeVisible();
  expect(screen.queryByRole("button", { name: /Cancel these/ })).toBeNull();
});

it("says that the index is behind", async () => {
  server.use(
    answerBy(PAGE_URL, (url) => ({
      ...pageOf(CHORES, url),
      freshness: { is_complete: false, share: 0.43, problem: "" },
    })),
  );
  openPage(PAGE_URL);
  expect(await screen.findByText(/Indexed 43% of the run/)).toBeVisible();
});

it("says why there is no answer", async () => {
  server.use(refuse(PAGE_URL, 503, "the index is being built by another process"));
  openPage(PAGE_URL);
  expect(await screen.findByText("the index is being built by another process")).toBeVisible();
});

it("gives all chores of the filter to keep", async () => {
  openPage(`${PAGE_URL}?state=failed`);
  for (const format of ["csv", "json"]) {
    const link = await screen.findByRole("link", { name: format.toUpperCase() });
    expect(link.getAttribute("href")).toMatch(
      new RegExp(`/api/v1${PAGE_URL}/?\\?format=${format}&state=failed$`),
    );
  }
});
