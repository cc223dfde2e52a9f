/** Where a drawing is looked at first. Pure. */
import type { Size } from "../../lib/canvas";
import type { Corner } from "./arrange";

interface Viewport {
  x: number;
  y: number;
  zoom: number;
}

const PADDING = 24;
/** Below it text cannot be read, so a part is shown rather than all. */
const MIN_READABLE = 0.5;
const READABLE = 0.85;

/**
 * Return a view of all of a drawing where that can be read, else of its beginning, or of `focus`.
 *
 * @param focus what should be seen in any case: its upper left corner, in the drawing.
 */
export function viewportFor(drawing: Size, screen: Size, focus: Corner | null): Viewport {
  const zoom = Math.min(
    1,
    (screen.width - 2 * PADDING) / Math.max(1, drawing.width),
    (screen.height - 2 * PADDING) / Math.max(1, drawing.height),
  );
  const used = zoom >= MIN_READABLE ? zoom : READABLE;
  return {
    x: shift(drawing.width * used, screen.width, (focus?.x ?? 0) * used),
    y: shift(drawing.height * used, screen.height, (focus?.y ?? 0) * used),
    zoom: used,
  };
}

/** In the middle where there is room; else around what should be seen, with nothing empty beside. */
function shift(length: number, room: number, seen: number): number {
  if (length + 2 * PADDING <= room) {
    return (room - length) / 2;
  }
  return Math.min(PADDING, Math.max(room / 2 - seen, room - PADDING - length));
}
