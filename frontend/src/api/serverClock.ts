/** The server's time: ages must not depend on the clock of the reader's computer. */

let offset = 0;

/** Learn from the `Date` of an answer. */
export function noteServerTime(response: Response): void {
  const at = Date.parse(response.headers.get("date") ?? "");
  if (!Number.isNaN(at)) {
    offset = at - Date.now();
  }
}

/** Milliseconds since 1970 by the server's clock, to the second. */
export function serverNow(): number {
  return Date.now() + offset;
}
