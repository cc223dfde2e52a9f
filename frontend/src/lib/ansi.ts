/**
 * The escape sequences of a terminal, as far as a log may use them: colours and weight.
 *
 * Everything else that an escape character begins (titles, links, movements, erasing) is left out,
 * except that an escape character which begins nothing known is shown as a sign. What comes out is
 * text and names of classes, never markup.
 */

/** What holds for the text that follows; carried from one line to the next. */
export interface Style {
  isBold: boolean;
  isFaint: boolean;
  isItalic: boolean;
  isUnderlined: boolean;
  isStruck: boolean;
  isInverse: boolean;
  /** One of the 16 colours, or null. */
  ink: number | null;
  ground: number | null;
}

interface Span {
  text: string;
  /** Names of classes; empty for plain text. */
  classes: string;
}

export const PLAIN: Style = {
  isBold: false,
  isFaint: false,
  isItalic: false,
  isUnderlined: false,
  isStruck: false,
  isInverse: false,
  ink: null,
  ground: null,
};

/** Shown for an escape character that begins nothing known. */
const STRAY_ESCAPE = "␛";

const ESCAPE =
  // CSI … final; OSC, DCS, SOS, PM, APC … BEL or ST or the end of the line; charset; two characters.
  // The server gives other control characters, BEL among them, as U+FFFD.
  // eslint-disable-next-line no-control-regex -- escape sequences are what this is about
  /\x1b(?:\[([0-?]*)[ -/]*([@-~])|[\]PX^_][^\x07\x1b\ufffd]*(?:[\x07\ufffd]|\x1b\\|$)|[ -/]+[0-~]|[0-Z\\`-~])|\x1b/g;

/** Return the text of a line in pieces of one look, and what holds behind it. */
export function parseAnsi(line: string, style: Style = PLAIN): { spans: Span[]; style: Style } {
  const spans: Span[] = [];
  let at = 0;
  const add = (text: string) => {
    if (text !== "") {
      spans.push({ text, classes: classesOf(style) });
    }
  };
  for (const found of line.matchAll(ESCAPE)) {
    add(line.slice(at, found.index));
    at = found.index + found[0].length;
    const [sequence, parameters, final] = found;
    if (final === "m") {
      style = applyCodes(style, parameters ?? "");
    } else if (sequence === "\x1b") {
      add(STRAY_ESCAPE);
    }
  }
  add(line.slice(at));
  return { spans, style };
}

/** Return the text that is seen: without escape sequences. */
export function plainText(line: string): string {
  return line.replace(ESCAPE, (sequence) => (sequence === "\x1b" ? STRAY_ESCAPE : ""));
}

/**
 * Return what a terminal would show of a line that returns to its beginning to write over itself.
 *
 * Progress bars do that; only what each part leaves of the one before matters.
 */
export function overwrite(line: string): string {
  const text = line.endsWith("\r") ? line.slice(0, -1) : line;
  const last = text.lastIndexOf("\r");
  if (last < 0) {
    return text;
  }
  const written = text.slice(last + 1);
  const before = text.slice(text.lastIndexOf("\r", last - 1) + 1, last);
  const length = plainText(written).length;
  const rest = plainText(before).slice(length).trimEnd();
  return rest === "" ? written : written + rest;
}

function applyCodes(style: Style, parameters: string): Style {
  const next = { ...style };
  const codes = parameters.split(/[;:]/).map((code) => (code === "" ? 0 : Number(code)));
  for (let index = 0; index < codes.length; index += 1) {
    const code = codes[index] ?? 0;
    if (code === 38 || code === 48) {
      const [colour, length] = readColour(codes.slice(index + 1));
      next[code === 38 ? "ink" : "ground"] = colour;
      index += length;
    } else {
      applyCode(next, code);
    }
  }
  return next;
}

function applyCode(style: Style, code: number): void {
  if (code === 0) {
    Object.assign(style, PLAIN);
  } else if (code === 1) {
    style.isBold = true;
  } else if (code === 2) {
    style.isFaint = true;
  } else if (code === 3) {
    style.isItalic = true;
  } else if (code === 4) {
    style.isUnderlined = true;
  } else if (code === 7) {
    style.isInverse = true;
  } else if (code === 9) {
    style.isStruck = true;
  } else if (code === 22) {
    style.isBold = style.isFaint = false;
  } else if (code === 23) {
    style.isItalic = false;
  } else if (code === 24) {
    style.isUnderlined = false;
  } else if (code === 27) {
    style.isInverse = false;
  } else if (code === 29) {
    style.isStruck = false;
  } else {
    applyColour(style, code);
  }
}

function applyColour(style: Style, code: number): void {
  if (code >= 30 && code <= 37) {
    style.ink = code - 30;
  } else if (code === 39) {
    style.ink = null;
  } else if (code >= 40 && code <= 47) {
    style.ground = code - 40;
  } else if (code === 49) {
    style.ground = null;
  } else if (code >= 90 && code <= 97) {
    style.ink = code - 82;
  } else if (code >= 100 && code <= 107) {
    style.ground = code - 92;
  }
}

/** Return the colour behind a 38 or 48, as the nearest of the 16, and how many codes it takes. */
function readColour(codes: readonly number[]): [number | null, number] {
  const [kind, first = 0, second = 0, third = 0] = codes;
  if (kind === 5) {
    return [nearestOf256(first), 2];
  }
  return kind === 2 ? [nearest(first, second, third), 4] : [null, codes.length];
}

function nearestOf256(index: number): number | null {
  if (!(index >= 0 && index <= 255)) {
    return null;
  }
  if (index < 16) {
    return index;
  }
  if (index >= 232) {
    const grey = 8 + 10 * (index - 232);
    return nearest(grey, grey, grey);
  }
  const level = (step: number) => (step === 0 ? 0 : 55 + 40 * step);
  const cube = index - 16;
  return nearest(level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6));
}

/**
 * The 16 have a light and a dark twin each, legible on the page; any other colour would need one.
 * So hue and lightness decide, by the bits of the colour: red 1, green 2, blue 4, bright 8.
 */
function nearest(red: number, green: number, blue: number): number {
  const most = Math.max(red, green, blue);
  if (most - Math.min(red, green, blue) < 40) {
    return most < 64 ? 0 : most < 160 ? 8 : most < 224 ? 7 : 15;
  }
  const isIn = (part: number) => part > most / 2;
  const hue = (isIn(red) ? 1 : 0) + (isIn(green) ? 2 : 0) + (isIn(blue) ? 4 : 0);
  return most > 200 ? hue + 8 : hue;
}

function classesOf(style: Style): string {
  const [ink, ground] = style.isInverse
    ? [style.ground ?? "ground", style.ink ?? "ink"]
    : [style.ink, style.ground];
  return [
    style.isBold && "ansi-bold",
    style.isFaint && "ansi-faint",
    style.isItalic && "ansi-italic",
    style.isUnderlined && "ansi-underlined",
    style.isStruck && "ansi-struck",
    ink !== null && `ansi-ink-${ink}`,
    ground !== null && `ansi-ground-${ground}`,
  ]
    .filter((name) => name !== false)
    .join(" ");
}
