import { screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, it } from "vitest";

import type { Schemas } from "../api/client";
import { expectAccessible, openPage } from "./page";
import { answer, refuse, RUN_URL, server } from "./server";

type Utilisation = Schemas["UtilisationResponse"];
type HostUse = Schemas["LaneUseResponse"];

const FRESH = { is_complete: true, share: 1, problem: "" };
const RUN = { start: 1000, end: 8200, is_growing: false };
const PAGE = `${RUN_URL}/utilisation`;

function makeUse(parts: Partial<HostUse> = {}): HostUse {
  return {
    name: "node1",
    running: 2,
    cores_busy: 2,
    gpus_busy: 0,
    completed: 40,
    failed: 0,
    core_seconds: 7200,
    gpu_seconds: 0,
    ...parts,
  };
}

function makeUtilisation(parts: Partial<Utilisation> = {}): Utilisation {
  const durations = { count: 40, total: 400, median: 9.5, p95: 20, max: 100 };
  return {
    run: RUN,
    core_seconds: 36_000,
    gpu_seconds: 0,
    total_node_seconds: 7200,
    total_core_seconds: 72_000,
    total_gpu_seconds: 0,
    hosts: [makeUse(), makeUse({ name: "node10", core_seconds: 3600, failed: 3 }), makeUse({ name: "node9", core_seconds: 1800 })],
    num_hosts: 3,
    groups: [
      { ...makeUse({ name: "relax" }), durations },
      { ...makeUse({ name: "md", core_seconds: 360 }), durations: { count: 0, total: null, median: null, p95: null, max: null } },
    ],
    num_groups: 2,
    freshness: FRESH,
    ...parts,
  };
}

function makeSeries(): Schemas["SeriesResponse"] {
  const zeros = [0, 0];
  return {
    run: RUN,
    start: 0,
    end: 7200,
    bin_seconds: 3600,
    at: [0, 3600],
    seconds: [2600, 3600],
    submitted: zeros,
    started: zeros,
    completed: zeros,
    failed: zeros,
    cancelled: zeros,
    skipped: zeros,
    requeued: zeros,
    running: zeros,
    cores_busy: [3.5, 10],
    gpus_busy: zeros,
    total_nodes: [1, 1],
    total_cores: [10, 10],
    total_gpus: zeros,
    freshness: FRESH,
  };
}

beforeEach(() => {
  server.use(answer(PAGE, makeUtilisation()), answer(`${RUN_URL}/series`, makeSeries()));
});

function namesOf(label: string): (string | null)[] {
  return within(screen.getByRole("region", { name: label }))
    .getAllByRole("rowheader")
    .map(({ textContent }) => textContent);
}

it("says how much was busy of what was there", async () => {
  const { container } = openPage(PAGE);
  const efficiency = await screen.findByText("Efficiency, cores");
  expect(efficiency.nextElementSibling).toHaveTextContent("50%");
  expect(screen.getByText("Core-hours busy").nextElementSibling).toHaveTextContent("10 of 20");
  expect(screen.getByText("Node-hours").nextElementSibling).toHaveTextContent("2");
  expect(screen.queryByText(/GPU/)).toBeNull();
  expect(await screen.findByRole("figure", { name: "Cores" })).toBeVisible();
  await expectAccessible(container);
});

it("tells of GPUs where there are any", async () => {
  server.use(answer(PAGE, makeUtilisation({ gpu_seconds: 900, total_gpu_seconds: 3600 })));
  openPage(PAGE);
  expect((await screen.findByText("Efficiency, GPUs")).nextElementSibling).toHaveTextContent("25%");
  expect(await screen.findByRole("figure", { name: "GPUs" })).toBeVisible();
  expect(screen.getAllByRole("button", { name: /GPU-hours/ })).toHaveLength(2);
});

it("sorts hosts by what one asks for, and keeps that in the address", async () => {
  const { router } = openPage(PAGE);
  const hosts = within(await screen.findByRole("region", { name: "Use by host" }));
  expect(namesOf("Use by host")).toEqual(["node1", "node10", "node9"]);
  await userEvent.click(hosts.getByRole("button", { name: /host/i }));
  expect(namesOf("Use by host")).toEqual(["node1", "node9", "node10"]);
  await userEvent.click(hosts.getByRole("button", { name: /failed/ }));
  expect(namesOf("Use by host")[0]).toBe("node10");
  expect(hosts.getByRole("columnheader", { name: /failed/ })).toHaveAttribute("aria-sort", "descending");
  expect(router.state.location.search).toBe("?hosts=-failed");
  expect(namesOf("Use by group")).toEqual(["relax", "md"]);
});

it("says how long the chores of a group ran, and nothing where none ended", async () => {
  openPage(`${PAGE}?groups=median`);
  const groups = within(await screen.findByRole("region", { name: "Use by group" }));
  const [, relax, md] = groups.getAllByRole("row");
  expect(relax).toHaveTextContent("9.5 s20 s1 min 40 s");
  expect(md).toHaveTextContent(/–––$/);
  expect(groups.getByRole("link", { name: "relax" })).toHaveAttribute("href", `${RUN_URL}/chores?group=relax`);
});

it("tells how many hosts are not listed", async () => {
  server.use(answer(PAGE, makeUtilisation({ num_hosts: 400 })));
  openPage(PAGE);
  expect(await screen.findByText("Showing the 3 hosts that did most, of 400.")).toBeVisible();
});

it("says that nothing has run yet, or what went wrong", async () => {
  server.use(answer(PAGE, makeUtilisation({ hosts: [], groups: [], num_hosts: 0, num_groups: 0 })));
  const { unmount } = openPage(PAGE);
  expect(await screen.findAllByText("Nothing has run yet.")).toHaveLength(2);
  unmount();
  server.use(refuse(PAGE, 422, "the index is broken"));
  openPage(PAGE);
  expect(await screen.findByText("the index is broken")).toBeVisible();
});
