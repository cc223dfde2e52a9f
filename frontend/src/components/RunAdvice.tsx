import type { Run } from "../api/client";
import { CommandLine } from "./CommandLine";

/** What can be done with a run that stands still, and the command that does it. */
export function RunAdvice({ run }: { run: Run }) {
  return run.command === null ? null : (
    <p className="advice">
      {run.advice} <CommandLine command={run.command} />
    </p>
  );
}
