/**
 * The part of a log that is in memory, as rows: whatever the size of the file, a few megabytes.
 *
 * A window is a run of pieces as the server gave them. Rows are lines; very long lines are cut, and
 * of lines that write over themselves only what is left to see is kept. Rows keep their numbers
 * while pieces come and go at either end, so that a reader's place can be kept.
 */
import type { Schemas } from "../api/client";
import { overwrite, parseAnsi, PLAIN, type Style } from "./ansi";

/** Bytes that are asked for at a time. */
export const PIECE_BYTES = 1 << 18;
/** Bytes in memory; what is farther from the reader is dropped. */
export const MAX_BYTES = 1 << 21;
/** Lines in memory, beyond what one piece holds: there are logs of empty lines. */
export const MAX_LINES = 200_000;
/** Characters of a row. */
export const MAX_ROW = 2000;
/** What the server gives for a byte that is no text. */
const REPLACEMENT = "\ufffd";
/** Longest escape sequence that a cut does not part. */
const MAX_SEQUENCE = 64;

type Answer = Schemas["LogResponse"];

interface Piece {
  text: string;
  /** Bytes of the file. */
  start: number;
  end: number;
  numLines: number;
}

export interface LogRow {
  text: string;
  /** What the text before has left to hold. */
  style: Style;
  /** Where it begins in the file; estimated where bytes were no text. */
  at: number;
  /** Whether the line began in a row before. */
  isContinued: boolean;
}

export interface LogWindow {
  /** The same as long as one window is extended, so that numbers of rows can be compared. */
  origin: symbol;
  pieces: readonly Piece[];
  rows: readonly LogRow[];
  /** Number of the first row; falls below 0 as earlier rows come. */
  firstNumber: number;
  /** Of the file, in bytes. */
  size: number;
  /** Whether the last row is the last of the file, as far as is known. */
  isAtEnd: boolean;
  /** To ask for what comes behind. */
  mark: string;
}

export function startOf({ pieces }: LogWindow): number {
  return pieces[0]?.start ?? 0;
}

export function endOf({ pieces }: LogWindow): number {
  return pieces.at(-1)?.end ?? 0;
}

/** A window of one answer. */
export function openWindow(answer: Answer): LogWindow {
  const pieces = [pieceOf(answer)];
  return {
    origin: Symbol("window"),
    pieces,
    rows: buildRows(pieces),
    firstNumber: 0,
    size: answer.size,
    isAtEnd: answer.is_complete,
    mark: answer.mark,
  };
}

/** Add what comes behind; drop what is too far ahead of it. */
export function append(window: LogWindow, answer: Answer): LogWindow {
  const joined = join(window.pieces, pieceOf(answer));
  const all = buildRows(joined);
  const pieces = dropWhile(joined, (rest) => rest.slice(1));
  const rows = pieces === joined ? all : buildRows(pieces);
  return {
    origin: window.origin,
    pieces,
    rows,
    firstNumber: window.firstNumber + all.length - rows.length,
    size: answer.size,
    isAtEnd: answer.is_complete,
    mark: answer.mark,
  };
}

/** Add what comes before; drop what is too far behind it. */
export function prepend(window: LogWindow, answer: Answer): LogWindow {
  const joined = [pieceOf(answer), ...window.pieces];
  const all = buildRows(joined);
  const pieces = dropWhile(joined, (rest) => rest.slice(0, -1));
  return {
    ...window,
    pieces,
    rows: pieces === joined ? all : buildRows(pieces),
    firstNumber: window.firstNumber - (all.length - window.rows.length),
    size: answer.size,
    isAtEnd: window.isAtEnd && pieces === joined,
  };
}

/** Return the row that holds a byte of the file at which a text was found. */
export function findRow({ rows }: LogWindow, offset: number, sought: string): number {
  const behind = rows.findIndex(({ at }) => at > offset);
  const guess = Math.max(0, (behind < 0 ? rows.length : behind) - 1);
  // A byte that was no text counts as the three of its replacement: the row is not above the guess.
  const text = sought.toLowerCase();
  const isThere = (row: LogRow | undefined) => row?.text.toLowerCase().includes(text) === true;
  const isExact = rows.slice(0, guess + 1).every((row) => !row.text.includes(REPLACEMENT));
  const index = isExact ? guess : rows.findIndex((row, at) => at >= guess && isThere(row));
  return index < 0 ? guess : index;
}

function pieceOf({ text, start, end }: Answer): Piece {
  return { text, start, end, numLines: text.split("\n").length - 1 };
}

function join(pieces: readonly Piece[], next: Piece): readonly Piece[] {
  const last = pieces.at(-1);
  // Small answers of a log that grows are put together, so that there are never many.
  return last !== undefined && next.end - last.start <= PIECE_BYTES
    ? [
        ...pieces.slice(0, -1),
        {
          text: last.text + next.text,
          start: last.start,
          end: next.end,
          numLines: last.numLines + next.numLines,
        },
      ]
    : [...pieces, next];
}

function dropWhile(
  pieces: readonly Piece[],
  drop: (pieces: readonly Piece[]) => readonly Piece[],
): readonly Piece[] {
  let rest = pieces;
  while (rest.length > 1 && isTooMuch(rest)) {
    rest = drop(rest);
  }
  return rest;
}

function isTooMuch(pieces: readonly Piece[]): boolean {
  const numBytes = (pieces.at(-1)?.end ?? 0) - (pieces[0]?.start ?? 0);
  const numLines = pieces.reduce((sum, piece) => sum + piece.numLines, 0);
  return numBytes > MAX_BYTES || numLines > MAX_LINES;
}

function buildRows(pieces: readonly Piece[]): LogRow[] {
  const rows: LogRow[] = [];
  let style = PLAIN;
  let carry = "";
  let lineAt = pieces[0]?.start ?? 0;
  for (const { text, start } of pieces) {
    let at = start;
    let from = 0;
    for (let to = text.indexOf("\n"); to >= 0; to = text.indexOf("\n", from)) {
      const part = text.slice(from, to);
      style = addLine(rows, carry + part, carry === "" ? at : lineAt, style);
      carry = "";
      at += utf8Length(part) + 1;
      from = to + 1;
    }
    const rest = text.slice(from);
    lineAt = carry === "" ? at : lineAt;
    carry += rest;
  }
  if (carry !== "") {
    addLine(rows, carry, lineAt, style);
  }
  return rows;
}

/** Add a line in as many rows as it needs; return what it leaves to hold. */
function addLine(rows: LogRow[], line: string, at: number, style: Style): Style {
  const shown = overwrite(line);
  let from = 0;
  do {
    const to = cutBehind(shown, from);
    const text = shown.slice(from, to);
    rows.push({ text, style, at, isContinued: from > 0 });
    if (text.includes("\x1b")) {
      style = parseAnsi(text, style).style;
    }
    at += utf8Length(text);
    from = to;
  } while (from < shown.length);
  return style;
}

/** Where a row ends that begins at `from`: not within a character or an escape sequence. */
function cutBehind(text: string, from: number): number {
  const to = from + MAX_ROW;
  if (to >= text.length) {
    return text.length;
  }
  const escape = text.lastIndexOf("\x1b", to - 1);
  if (escape > from && escape >= to - MAX_SEQUENCE) {
    return escape;
  }
  const isHigh = /[\ud800-\udbff]/.test(text.charAt(to - 1));
  return isHigh ? to - 1 : to;
}

function utf8Length(text: string): number {
  let length = text.length;
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    if (code > 0x7f) {
      // Half of a pair is half of four bytes.
      length += code <= 0x7ff || (code >= 0xd800 && code <= 0xdfff) ? 1 : 2;
    }
  }
  return length;
}
