/** A line of a log with the colours that its author gave it; text and classes, never markup. */
import { parseAnsi, type Style } from "../lib/ansi";
import "./AnsiText.css";

export function AnsiText({ text, style }: { text: string; style?: Style }) {
  return parseAnsi(text, style).spans.map(({ text: piece, classes }, index) =>
    classes === "" ? (
      piece
    ) : (
      <span key={index} className={classes}>
        {piece}
      </span>
    ),
  );
}
