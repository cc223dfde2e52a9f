/** Stretches of time: zooming, moving, and their form in an address. Pure. */

/** A stretch of time, in seconds since the Unix epoch. */
export interface TimeWindow {
  start: number;
  end: number;
}

/** Nothing shorter is shown: the server's answers are cut at whole seconds. */
export const MIN_SECONDS = 1;

export function spanOf({ start, end }: TimeWindow): number {
  return end - start;
}

/** Return a window of the same length, as far as that fits, within the bounds. */
export function keepWithin(window: TimeWindow, bounds: TimeWindow): TimeWindow {
  const most = Math.max(spanOf(bounds), MIN_SECONDS);
  const span = Math.min(Math.max(spanOf(window), MIN_SECONDS), most);
  const middle = (window.start + window.end) / 2;
  const start = Math.max(bounds.start, Math.min(middle - span / 2, bounds.start + most - span));
  return { start, end: start + span };
}

/**
 * Zoom around an instant, which stays where it is on the screen.
 *
 * @param factor how much longer things get; below 1 for zooming out.
 */
export function zoomAround(
  window: TimeWindow,
  factor: number,
  at: number,
  bounds: TimeWindow,
): TimeWindow {
  const most = Math.max(spanOf(bounds), MIN_SECONDS);
  const span = Math.min(Math.max(spanOf(window) / factor, MIN_SECONDS), most);
  const share = (at - window.start) / spanOf(window);
  const start = at - share * span;
  return keepWithin({ start, end: start + span }, bounds);
}

export function moveBy(window: TimeWindow, seconds: number, bounds: TimeWindow): TimeWindow {
  return keepWithin({ start: window.start + seconds, end: window.end + seconds }, bounds);
}

/** Whether nothing of the bounds is outside, so that the window need not be named. */
export function isWhole(window: TimeWindow, bounds: TimeWindow): boolean {
  return window.start <= bounds.start && window.end >= bounds.end;
}

/** Read the window that an address names; null where it names none. */
export function readWindow(parameters: URLSearchParams): TimeWindow | null {
  const [start, end] = ["start", "end"].map((name) => Number.parseFloat(parameters.get(name) ?? ""));
  const isNamed = start !== undefined && end !== undefined && start >= 0 && end > start;
  return isNamed && end < 1e11 ? { start, end } : null;
}

/** Return a copy of an address's parameters that names a window, or none. */
export function writeWindow(parameters: URLSearchParams, window: TimeWindow | null): URLSearchParams {
  const written = new URLSearchParams(parameters);
  for (const name of ["start", "end"] as const) {
    if (window === null) {
      written.delete(name);
    } else {
      written.set(name, round(window[name], spanOf(window)));
    }
  }
  return written;
}

/** No more digits than can be told apart on a screen. */
function round(second: number, span: number): string {
  const digits = span > 2000 ? 0 : span > 20 ? 1 : 3;
  return String(Number(second.toFixed(digits)));
}
