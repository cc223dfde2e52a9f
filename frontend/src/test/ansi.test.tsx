import { render } from "@testing-library/react";
import { describe, expect, it } from "vitest";

import { AnsiText } from "../components/AnsiText";
import { overwrite, parseAnsi, plainText, PLAIN } from "../lib/ansi";

const ESC = "\x1b";

describe("parseAnsi", () => {
  it("turns colours and weight into classes", () => {
    const { spans, style } = parseAnsi(`plain ${ESC}[1;31mred ${ESC}[44mon blue${ESC}[0m plain`);
    expect(spans).toEqual([
      { text: "plain ", classes: "" },
      { text: "red ", classes: "ansi-bold ansi-ink-1" },
      { text: "on blue", classes: "ansi-bold ansi-ink-1 ansi-ground-4" },
      { text: " plain", classes: "" },
    ]);
    expect(style).toEqual(PLAIN);
  });

  it("carries what holds to the next line", () => {
    const { style } = parseAnsi(`${ESC}[32mgreen`);
    expect(parseAnsi("still", style).spans).toEqual([{ text: "still", classes: "ansi-ink-2" }]);
  });

  it.each([
    [`${ESC}[m`, ""],
    [`${ESC}[92m`, "ansi-ink-10"],
    [`${ESC}[103m`, "ansi-ground-11"],
    [`${ESC}[31m${ESC}[39m`, ""],
    [`${ESC}[1m${ESC}[22m`, ""],
    [`${ESC}[2;3;4;9m`, "ansi-faint ansi-italic ansi-underlined ansi-struck"],
    [`${ESC}[7m`, "ansi-ink-ground ansi-ground-ink"],
    [`${ESC}[38;5;9m`, "ansi-ink-9"],
    [`${ESC}[38;5;196m`, "ansi-ink-9"],
    [`${ESC}[38;5;232m`, "ansi-ink-0"],
    [`${ESC}[38;2;10;10;200m`, "ansi-ink-4"],
    [`${ESC}[38;2;255;0;0;1m`, "ansi-bold ansi-ink-9"],
    [`${ESC}[38;5;999m`, ""],
    [`${ESC}[38m`, ""],
  ])("reads %j", (sequence, classes) => {
    expect(parseAnsi(`${sequence}x`).spans).toEqual([{ text: "x", classes }]);
  });

  it.each([
    ["a title", `a${ESC}]0;title\x07b`],
    ["a title whose end the server has replaced", `a${ESC}]0;title\ufffdb`],
    ["a link", `a${ESC}]8;;http://evil.example${ESC}\\b`],
    ["erasing and movement", `a${ESC}[2J${ESC}[10;20Hb`],
    ["a device control string", `a${ESC}P1$r0m${ESC}\\b`],
    ["a character set", `a${ESC}(Bb`],
    ["a reset", `a${ESC}cb`],
  ])("leaves out %s", (_, text) => {
    expect(plainText(text)).toBe("ab");
    expect(parseAnsi(text).spans.map((span) => span.text).join("")).toBe("ab");
  });

  it("shows an escape that begins nothing", () => {
    expect(plainText(`a${ESC}`)).toBe("a␛");
    expect(plainText(`a${ESC}[31`)).toBe("a␛[31");
  });

  it("takes a time that grows with the text only, whatever it holds", () => {
    const text = `${ESC}]`.repeat(50_000) + `${ESC}[${"1;".repeat(50_000)}`;
    expect(parseAnsi(text).spans.length).toBeGreaterThan(0);
  });
});

it.each([
  ["as it is", "as it is"],
  ["ends as on Windows\r", "ends as on Windows"],
  ["10%\r20%\r30%", "30%"],
  ["a long line\rshort", "shortg line"],
  [`${ESC}[31mred\r${ESC}[32mgreen`, `${ESC}[32mgreen`],
])("shows of %j what is left to see", (line, shown) => {
  expect(overwrite(line)).toBe(shown);
});

it("renders markup as text", () => {
  const { container } = render(
    <AnsiText text={`<script>alert(1)</script>${ESC}[31m<img src=x onerror=alert(2)>`} />,
  );
  expect(container.querySelector("script, img")).toBeNull();
  expect(container).toHaveTextContent("<script>alert(1)</script><img src=x onerror=alert(2)>");
  expect(container.querySelector("[style]")).toBeNull();
});
