import "@testing-library/jest-dom/vitest";
import { cleanup, configure } from "@testing-library/react";
import { afterAll, afterEach, beforeAll, beforeEach, vi } from "vitest";

import { FakeEventSource } from "./eventSource";
import { NOW } from "./fixtures";

// What jsdom lacks; configurable, so that a test may put its own there.
const LACKING: [object, string, unknown][] = [
  [globalThis, "EventSource", FakeEventSource],
  [window, "matchMedia", (media: string) => Object.assign(new EventTarget(), { media, matches: false })],
  [
    globalThis,
    "ResizeObserver",
    class {
      observe = vi.fn();
      unobserve = vi.fn();
      disconnect = vi.fn();
    },
  ],
  // A pencil that draws nothing: what a canvas shows stands in a table beside it.
  [HTMLCanvasElement.prototype, "getContext", makeIdle],
  [globalThis, "Path2D", function Path2D() { return makeIdle(); }],
  [HTMLDialogElement.prototype, "showModal", openDialog],
  [HTMLDialogElement.prototype, "close", closeDialog],
];
for (const [owner, name, value] of LACKING) {
  Object.defineProperty(owner, name, { value, configurable: true, writable: true });
}

/** An object with every method, none of which does anything. */
function makeIdle(): object {
  return new Proxy({}, { get: () => () => undefined });
}

function openDialog(this: HTMLDialogElement): void {
  this.open = true;
}

function closeDialog(this: HTMLDialogElement): void {
  this.open = false;
}

// After the stubs: the modules of the page look at them when they are loaded.
const { server } = await import("./server");

// A page is loaded when it is opened first, which takes its time on a busy machine.
configure({ asyncUtilTimeout: 10_000 });

beforeAll(() => {
  server.listen({ onUnhandledRequest: "error" });
});
beforeEach(() => {
  vi.useFakeTimers({ now: NOW, toFake: ["Date"] });
});
afterEach(() => {
  cleanup();
  server.resetHandlers();
  FakeEventSource.forget();
  localStorage.clear();
  vi.useRealTimers();
});
afterAll(() => {
  server.close();
});
