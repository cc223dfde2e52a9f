import { describe, expect, it } from "vitest";

import type { Schemas } from "../api/client";
import {
  append,
  endOf,
  findRow,
  MAX_BYTES,
  MAX_LINES,
  MAX_ROW,
  openWindow,
  PIECE_BYTES,
  prepend,
  startOf,
} from "../lib/logWindow";

const BYTES = new TextEncoder();

function answer(text: string, start = 0, size?: number): Schemas["LogResponse"] {
  const end = start + BYTES.encode(text).length;
  return {
    stream: "stdout",
    attempt: 1,
    text,
    start,
    end,
    size: size ?? end,
    is_complete: size === undefined || size === end,
    is_replaced: false,
    mark: `mark-${end}`,
    modified_at: 0,
  };
}

function textsOf(window: ReturnType<typeof openWindow>): string[] {
  return window.rows.map(({ text }) => text);
}

describe("rows", () => {
  it("are lines, the last one also where it has not ended", () => {
    expect(textsOf(openWindow(answer("a\n\nb\nc")))).toEqual(["a", "", "b", "c"]);
    expect(textsOf(openWindow(answer("a\n")))).toEqual(["a"]);
    expect(textsOf(openWindow(answer("")))).toEqual([]);
  });

  it("know where they stand in the file", () => {
    const { rows } = openWindow(answer("é中\n😀x\nend", 100));
    expect(rows.map(({ at }) => at)).toEqual([100, 106, 112]);
  });

  it("hold what a progress bar has left to see", () => {
    const bar = Array.from({ length: 1000 }, (_, index) => `\rstep ${index}`).join("");
    expect(textsOf(openWindow(answer(`${bar}\ndone\n`)))).toEqual(["step 999", "done"]);
  });

  it("cut a line without an end, and neither characters nor escapes in it", () => {
    const line = `${"x".repeat(MAX_ROW - 1)}😀${"y".repeat(MAX_ROW - 4)}\x1b[31m${"z".repeat(1_000_000)}`;
    const { rows } = openWindow(answer(`${line}\nnext`));
    expect(rows.every(({ text }) => text.length <= MAX_ROW)).toBe(true);
    expect(rows.map(({ text }) => text).join("")).toBe(`${line}next`);
    expect(rows[1]?.text.startsWith("😀")).toBe(true);
    expect(rows[2]?.text.startsWith("\x1b[31m")).toBe(true);
    expect(rows[3]).toMatchObject({ isContinued: true, style: { ink: 1 } });
    expect(rows.at(-1)).toMatchObject({ text: "next", isContinued: false });
  });
});

describe("a window that is extended", () => {
  it("joins a line that was read in two pieces", () => {
    const window = append(openWindow(answer("one\ntw", 0, 11)), answer("o\nthree", 6));
    expect(textsOf(window)).toEqual(["one", "two", "three"]);
    expect(window.isAtEnd).toBe(true);
    expect(window.mark).toBe("mark-13");
  });

  it("keeps the numbers of its rows when earlier ones come", () => {
    const later = openWindow(answer("c\nd\n", 4));
    const window = prepend(later, answer("a\nb\n", 0, 8));
    expect(textsOf(window)).toEqual(["a", "b", "c", "d"]);
    expect(window.firstNumber).toBe(-2);
    expect(window.origin).toBe(later.origin);
  });

  it("drops what is far ahead of its end, and stays of a bounded size", () => {
    const line = `${"x".repeat(99)}\n`;
    const piece = line.repeat(Math.floor(PIECE_BYTES / 100));
    let window = openWindow(answer(piece));
    let numRows = window.rows.length;
    for (let times = 0; times < 12; times += 1) {
      window = append(window, answer(piece, endOf(window)));
      numRows += piece.length / 100;
      expect(endOf(window) - startOf(window)).toBeLessThanOrEqual(MAX_BYTES);
    }
    expect(window.firstNumber + window.rows.length).toBe(numRows);
    expect(window.firstNumber).toBeGreaterThan(0);
  });

  it("drops what is far behind its beginning, and knows that the end is not there", () => {
    const line = `${"x".repeat(99)}\n`;
    const piece = line.repeat(Math.floor(PIECE_BYTES / 100));
    const start = 12 * piece.length;
    let window = openWindow(answer(piece, start));
    for (let at = start - piece.length; at >= 0; at -= piece.length) {
      window = prepend(window, answer(piece, at));
      expect(endOf(window) - startOf(window)).toBeLessThanOrEqual(MAX_BYTES);
    }
    expect(startOf(window)).toBe(0);
    expect(window.isAtEnd).toBe(false);
    expect(window.firstNumber).toBe(-start / 100);
  });

  it("bounds empty lines, too", () => {
    const piece = "\n".repeat(PIECE_BYTES);
    let window = openWindow(answer(piece));
    for (let times = 0; times < 3; times += 1) {
      window = append(window, answer(piece, endOf(window)));
    }
    expect(window.rows.length).toBeLessThanOrEqual(Math.max(MAX_LINES, PIECE_BYTES));
  });

  it("puts small pieces together", () => {
    let window = openWindow(answer(""));
    for (let times = 0; times < 100; times += 1) {
      window = append(window, answer("tick\n", endOf(window)));
    }
    expect(window.pieces).toHaveLength(1);
    expect(window.rows).toHaveLength(100);
  });
});

it("finds the row of a match, also where bytes were no text", () => {
  // Each replacement stands for one byte of the file, and counts as three.
  const text = `${"\ufffd".repeat(50)}\nneedle\n${"other\n".repeat(20)}Needle again\n`;
  const window = openWindow(answer(text));
  expect(findRow(window, 51, "needle")).toBe(1);
  expect(findRow(window, 51 + 7 + 120, "NEEDLE")).toBe(22);
  expect(findRow(window, 0, "not there")).toBe(0);
});
