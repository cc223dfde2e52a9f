import { afterEach, beforeEach, expect, it, vi } from "vitest";

import type { Schemas } from "../api/client";
import { LOOK_MILLISECONDS, LogReader } from "../components/log/logReader";
import { PIECE_BYTES, startOf } from "../lib/logWindow";

const PLACE = { runId: "run", choreId: "chore-a-1", attempt: null, stream: "stdout" } as const;

/** A file of the server, as the route answers about it. */
class FakeLog {
  text: string | null = "";
  etag = 1;
  asked: URLSearchParams[] = [];
  etags: (string | null)[] = [];

  write(text: string): void {
    this.text = (this.text ?? "") + text;
    this.etag += 1;
  }

  answer(request: Request): Response {
    const query = new URL(request.url).searchParams;
    this.asked.push(query);
    this.etags.push(request.headers.get("if-none-match"));
    if (this.text === null) {
      return Response.json({ title: "Not Found", detail: "no file" }, { status: 404 });
    }
    const etag = `"${this.etag}"`;
    if (request.headers.get("if-none-match") === etag) {
      return new Response(null, { status: 304 });
    }
    const size = this.text.length;
    const mark = query.get("mark");
    const marked = mark === null ? null : Number(mark);
    const isReplaced = marked !== null && marked > size;
    const tail = query.get("tail");
    const start =
      tail !== null ? Math.max(0, size - Number(tail)) : isReplaced ? 0 : Number(marked ?? query.get("offset") ?? 0);
    const end = Math.min(size, start + Number(tail ?? query.get("length") ?? PIECE_BYTES));
    const body: Schemas["LogResponse"] = {
      stream: "stdout",
      attempt: 1,
      text: this.text.slice(start, end),
      start,
      end,
      size,
      is_complete: end === size,
      is_replaced: isReplaced,
      mark: String(end),
      modified_at: 0,
    };
    return Response.json(body, { headers: { etag } });
  }
}

let log: FakeLog;
let reader: LogReader;
let close: () => void;

beforeEach(() => {
  vi.useFakeTimers();
  log = new FakeLog();
  vi.stubGlobal("fetch", (request: Request) => Promise.resolve(log.answer(request)));
  reader = new LogReader(PLACE, false);
});
afterEach(() => {
  close();
});

async function open(): Promise<void> {
  close = reader.subscribe(() => undefined);
  await vi.advanceTimersByTimeAsync(0);
}

async function wait(): Promise<void> {
  await vi.advanceTimersByTimeAsync(LOOK_MILLISECONDS);
}

function texts(): string[] {
  return reader.read().window?.rows.map(({ text }) => text) ?? [];
}

it("reads the end first, and what is printed later", async () => {
  log.write("x".repeat(PIECE_BYTES));
  log.write("\nlast\n");
  await open();
  expect(texts().at(-1)).toBe("last");
  expect(startOf(reader.read().window ?? never())).toBe(6);
  log.write("more\n");
  await wait();
  expect(texts().at(-1)).toBe("more");
  expect(log.asked.at(-1)?.get("mark")).toBe(String(PIECE_BYTES + 6));
});

it("asks by the ETag, and changes nothing where nothing changed", async () => {
  log.write("one\n");
  await open();
  const { window } = reader.read();
  await wait();
  expect(log.etags.at(-1)).toBe(`"${log.etag}"`);
  expect(reader.read().window).toBe(window);
});

it("waits for a file that is not there yet", async () => {
  log.text = null;
  await open();
  expect(reader.read()).toMatchObject({ window: null, isMissing: true, error: null });
  log.write("at last\n");
  await wait();
  expect(texts()).toEqual(["at last"]);
  expect(reader.read().isMissing).toBe(false);
});

it("reads the last when the chore has ended, and then rests", async () => {
  log.write("one\n");
  await open();
  log.write("two\n");
  reader.setOver(true);
  await vi.advanceTimersByTimeAsync(0);
  expect(texts()).toEqual(["one", "two"]);
  expect(log.asked.at(-1)?.get("is_final")).toBe("true");
  const num = log.asked.length;
  await wait();
  await wait();
  expect(log.asked).toHaveLength(num);
});

it("begins anew where the file was replaced", async () => {
  log.write("a long story\n");
  await open();
  log.text = "";
  log.write("new\n");
  await wait();
  expect(texts()).toEqual(["new"]);
});

it("goes to earlier parts by ranges, down to the beginning", async () => {
  log.write(`first\n${"x".repeat(99)}\n`.padEnd(2 * PIECE_BYTES, `${"y".repeat(31)}\n`));
  await open();
  reader.loadEarlier();
  await vi.advanceTimersByTimeAsync(0);
  expect(startOf(reader.read().window ?? never())).toBe(0);
  expect(texts()[0]).toBe("first");
  expect(reader.read().window?.firstNumber).toBeLessThan(0);
  expect(reader.read().window?.isAtEnd).toBe(true);
});

it("seeks any place, and comes back to the end", async () => {
  log.write("z".repeat(31).concat("\n").repeat(10 * (PIECE_BYTES / 32)));
  await open();
  await reader.seek(5 * PIECE_BYTES);
  expect(startOf(reader.read().window ?? never())).toBe(4.5 * PIECE_BYTES);
  expect(reader.read().window?.isAtEnd).toBe(false);
  const num = log.asked.length;
  await wait();
  expect(log.asked).toHaveLength(num);
  reader.loadLater();
  await vi.advanceTimersByTimeAsync(0);
  expect(reader.read().window?.pieces).toHaveLength(2);
  await reader.toEnd();
  expect(reader.read().window?.isAtEnd).toBe(true);
});

it("jumps to the end rather than reading all that came between", async () => {
  log.write("start\n");
  await open();
  log.write("w\n".repeat(20 * PIECE_BYTES));
  await wait();
  expect(log.asked.at(-1)?.get("tail")).toBe(String(PIECE_BYTES));
  expect(reader.read().window?.isAtEnd).toBe(true);
});

it("leaves the rest for later while the reader is far up", async () => {
  const line = `${"v".repeat(999)}\n`;
  log.write(line.repeat(200));
  await open();
  reader.follow(false);
  for (let times = 0; times < 12; times += 1) {
    log.write(line.repeat(200));
    await wait();
  }
  const { window } = reader.read();
  expect(startOf(window ?? never())).toBe(0);
  expect(window?.isAtEnd).toBe(false);
  expect(window?.size).toBeGreaterThan(window?.pieces.at(-1)?.end ?? Infinity);
});

it("tells of an error, keeps what was seen, and goes on", async () => {
  log.write("one\n");
  await open();
  const works = globalThis.fetch;
  vi.stubGlobal("fetch", () => Promise.reject(new TypeError("Failed to fetch")));
  await wait();
  expect(reader.read().error).toBeInstanceOf(TypeError);
  expect(texts()).toEqual(["one"]);
  vi.stubGlobal("fetch", works);
  await wait();
  expect(reader.read().error).toBeNull();
});

it("asks nothing while nobody looks", async () => {
  log.write("one\n");
  await open();
  close();
  const num = log.asked.length;
  await wait();
  expect(log.asked).toHaveLength(num);
  await open();
  expect(log.asked.length).toBeGreaterThan(num);
});

function never(): never {
  throw new Error("there is no window");
}
