import { render, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, it } from "vitest";

import { TimeChart, type TimeSeries } from "../components/TimeChart";
import { expectAccessible } from "./page";

const BUSY: TimeSeries = { name: "busy", values: [1, null, 3], colour: "--fill-running", look: "area" };

function show(series: TimeSeries[]) {
  return render(
    <TimeChart title="Cores" at={[0, 60, 120]} end={180} series={series} format={(value) => `${value} cores`} />,
  );
}

it("draws what it says in a table, which is filled when it is opened", async () => {
  const { container } = show([BUSY]);
  await expect.poll(() => container.querySelector("canvas")).not.toBeNull();
  expect(screen.queryByRole("table")).toBeNull();
  await userEvent.click(screen.getByText("As a table"));
  const rows = within(await screen.findByRole("table")).getAllByRole("row");
  expect(rows.map((row) => row.lastElementChild?.textContent)).toEqual(["busy", "1 cores", "–", "3 cores"]);
  await expectAccessible(container);
});

it("draws anew where another quantity comes in", async () => {
  const { container, rerender } = show([BUSY]);
  await expect.poll(() => container.querySelectorAll(".u-series")).toHaveLength(2);
  const total: TimeSeries = { name: "total", values: [4, 4, 4], colour: "--ink-soft", look: "line" };
  rerender(
    <TimeChart title="Cores" at={[0, 60, 120]} end={180} series={[BUSY, total]} format={String} />,
  );
  await expect.poll(() => container.querySelectorAll(".u-series")).toHaveLength(3);
});
