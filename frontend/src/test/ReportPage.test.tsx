import { screen } from "@testing-library/react";
import { expect, it } from "vitest";

import { expectAccessible, openPage } from "./page";
import { RUN_URL } from "./server";

it("offers the report of the run as a file", async () => {
  const { container } = openPage(`${RUN_URL}/report`);
  const link = await screen.findByRole("link", { name: "Download the report" });
  expect(link).toHaveAttribute("href", `http://localhost:3000/api/v1${RUN_URL}/report`);
  expect(link).toHaveAttribute("download");
  await expectAccessible(container);
});
