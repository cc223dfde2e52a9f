import { afterEach, expect, it } from "vitest";

import { ApiError, startSession } from "../api/client";
import { answer, serve } from "./fixtures";

afterEach(() => {
  window.history.replaceState(null, "", "/");
});

it("exchanges the token and removes it from the address", async () => {
  const server = serve(() => new Response(null, { status: 204 }));
  window.history.replaceState(null, "", "/#token=a-b_c");
  await startSession();
  const request = server.mock.calls[0]?.[0];
  expect(request?.method).toBe("POST");
  expect(request?.url).toBe(`http://localhost:3000/api/session`);
  expect(request?.headers.get("authorization")).toBe("Bearer a-b_c");
  expect(window.location.href).not.toContain("a-b_c");
});

it("removes a token that is refused, too", async () => {
  serve(() => answer({ title: "Unauthorized", detail: "Open the link" }, 401));
  window.history.replaceState(null, "", "/#token=old");
  await expect(startSession()).rejects.toEqual(
    new ApiError(401, { title: "Unauthorized", detail: "Open the link" }),
  );
  expect(window.location.hash).toBe("");
});

it("asks nothing without a token", async () => {
  const server = serve();
  await startSession();
  expect(server).not.toHaveBeenCalled();
});
