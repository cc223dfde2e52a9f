/** Whether the driver of a run is slow to give a sign of life; whether it is lost the server says. */
import type { RunStatus } from "../api/client";
import { isTerminal } from "./runState";

/** The driver writes every five seconds at least. */
export const LATE_SECONDS = 30;
/** The server calls it lost before that; where it did not, it is the server that is silent. */
export const SILENT_SECONDS = 120;

/** Judge a status at `now`, milliseconds since 1970 by the server's clock. */
export function isLate(status: RunStatus, now: number): boolean {
  const ageSeconds = (now - Date.parse(status.updated_at ?? "")) / 1000;
  return !isTerminal(status.state) && ageSeconds >= LATE_SECONDS && ageSeconds < SILENT_SECONDS;
}
