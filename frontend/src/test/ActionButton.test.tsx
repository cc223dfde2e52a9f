import { QueryClientProvider } from "@tanstack/react-query";
import { render, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { HttpResponse } from "msw";
import { beforeEach, expect, it, vi } from "vitest";

import { makeQueryClient } from "../App";
import { ActionButton } from "../components/ActionButton";
import { expectAccessible } from "./page";
import { answer, answerBy, RUN_ID, RUN_URL, server } from "./server";

const SETTINGS = { version: "0.6.0", root: "~/study", is_single_run: false };

function show(question?: { title: string; text: string }) {
  return render(
    <QueryClientProvider client={makeQueryClient()}>
      <ActionButton
        runId={RUN_ID}
        request={{ verb: "retry", failed: true }}
        {...(question && { question })}
      >
        Retry failed
      </ActionButton>
    </QueryClientProvider>,
  );
}

/** Let the server take requests and answer each look by the next of `outcomes`. */
function takeActions(accepted: object, ...outcomes: object[]) {
  const asked = vi.fn<(body: unknown, header: string | null) => void>();
  server.use(
    answerBy(
      `${RUN_URL}/actions`,
      async (_, request) => {
        asked(await request.json(), request.headers.get("x-matensemble"));
        return HttpResponse.json({ id: "r1", note: "", command: null, ...accepted }, { status: 202 });
      },
      "post",
    ),
    answerBy(`${RUN_URL}/actions/r1`, () => HttpResponse.json(outcomes.length > 1 ? outcomes.shift() : outcomes[0])),
  );
  return asked;
}

beforeEach(() => {
  server.use(answer("/settings", { ...SETTINGS, allow_actions: true }));
});

it("asks, waits for the driver and says what was done", async () => {
  const asked = takeActions({}, { state: "waiting", text: "" }, { state: "done", text: "retried 3 chores" });
  show();
  await userEvent.click(await screen.findByRole("button", { name: "Retry failed" }));
  expect(screen.getByRole("status")).toHaveTextContent("waiting for the driver");
  expect(await screen.findByText("retried 3 chores", {}, { timeout: 4000 })).toBeVisible();
  expect(asked).toHaveBeenCalledExactlyOnceWith(
    { verb: "retry", failed: true, everything: false, chores: [], groups: [] },
    "1",
  );
});

it("asks the reader first, and does nothing where the answer is no", async () => {
  const asked = takeActions({}, { state: "done", text: "retried" });
  const { container } = show({ title: "Retry what failed?", text: "Chores run again." });
  await userEvent.click(await screen.findByRole("button", { name: "Retry failed" }));
  const dialog = screen.getByRole("dialog", { name: "Retry what failed?" });
  await expectAccessible(container);
  await userEvent.click(screen.getByRole("button", { name: "Leave it" }));
  expect(dialog).not.toHaveAttribute("open");
  expect(asked).not.toHaveBeenCalled();
});

it("goes on where the answer is yes, and says how to start a driver where there is none", async () => {
  const asked = takeActions({ note: "the run is over", command: "matensemble resume /study/run" });
  show({ title: "Retry what failed?", text: "Chores run again." });
  await userEvent.click(await screen.findByRole("button", { name: "Retry failed" }));
  const dialog = screen.getByRole("dialog");
  await userEvent.click(within(dialog).getByRole("button", { name: "Retry failed" }));
  expect(await screen.findByText("matensemble resume /study/run")).toBeVisible();
  expect(screen.getByRole("status")).toHaveTextContent("waits: the run is over");
  expect(dialog).not.toHaveAttribute("open");
  expect(asked).toHaveBeenCalledOnce();
});

it("says why the server does not take it", async () => {
  server.use(
    answerBy(
      `${RUN_URL}/actions`,
      () => HttpResponse.json({ title: "No", detail: "no room for more" }, { status: 503 }),
      "post",
    ),
  );
  show();
  await userEvent.click(await screen.findByRole("button", { name: "Retry failed" }));
  expect(await screen.findByText("no room for more")).toBeVisible();
});

it("is not there where the dashboard only looks", async () => {
  const looked = vi.fn();
  server.use(
    answerBy("/settings", () => {
      looked();
      return { ...SETTINGS, allow_actions: false };
    }),
  );
  show();
  await expect.poll(() => looked.mock.calls.length).toBe(1);
  expect(screen.queryByRole("button")).toBeNull();
});
