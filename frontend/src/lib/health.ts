/** Whether the driver of a run still gives a sign of life. */
import type { RunStatus } from "../api/client";
import { isTerminal } from "./runState";

/**
 * The driver writes every five seconds at least. A network file system may show that a minute
 * late, so only twice as long a silence is called a loss.
 */
export const LATE_SECONDS = 30;
export const LOST_SECONDS = 120;

export type Health =
  | { kind: "ended" }
  | { kind: "live"; ageSeconds: number }
  | { kind: "late"; ageSeconds: number }
  | { kind: "lost"; ageSeconds: number }
  | { kind: "unknown" };

/** Judge a status at `now`, milliseconds since 1970 by the server's clock. */
export function judgeHealth(status: RunStatus, now: number): Health {
  if (isTerminal(status.state)) {
    return { kind: "ended" };
  }
  const updatedAt = Date.parse(status.updated_at ?? "");
  if (Number.isNaN(updatedAt)) {
    return { kind: "unknown" };
  }
  const ageSeconds = Math.max(0, (now - updatedAt) / 1000);
  if (ageSeconds < LATE_SECONDS) {
    return { kind: "live", ageSeconds };
  }
  return { kind: ageSeconds < LOST_SECONDS ? "late" : "lost", ageSeconds };
}
