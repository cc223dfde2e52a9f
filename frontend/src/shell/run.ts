/** The run whose page is shown. */
import { createContext, useContext } from "react";

import type { Run } from "../api/client";

export const RunContext = createContext<Run | null>(null);

/** The run of the page; only below `RunLayout`. */
export function useRun(): Run {
  const run = useContext(RunContext);
  if (run === null) {
    throw new Error("useRun is called outside of a run's pages");
  }
  return run;
}
