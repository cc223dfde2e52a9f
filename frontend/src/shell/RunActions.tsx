import type { Run } from "../api/client";
import { ActionButton } from "../components/ActionButton";
import { formatQuantity } from "../lib/format";

/** What can be asked of a run as a whole, as it stands; nothing where the dashboard only looks. */
export function RunActions({ run: { id, health, status } }: { run: Run }) {
  if (status == null) {
    return null;
  }
  const isAlive = health === "alive";
  const isPaused = status.state === "paused";
  const numFailed = status.num_root_failures;
  return (
    <div className="run-actions">
      <ActionButton
        runId={id}
        request={{ verb: isPaused ? "unpause" : "pause" }}
        isOffered={isAlive}
      >
        {isPaused ? "Unpause" : "Pause"}
      </ActionButton>
      <ActionButton
        runId={id}
        request={{ verb: "cancel", everything: true }}
        question={{
          title: "Cancel the run?",
          text: `${formatQuantity(status.counts.running, "running chore")} will be ended, and ${formatQuantity(status.counts.pending, "pending chore")} will not start. What completed is kept.`,
        }}
        isOffered={isAlive}
      >
        Cancel run
      </ActionButton>
      <ActionButton
        runId={id}
        request={{ verb: "retry", failed: true }}
        question={{
          title: "Retry what failed?",
          text: `${formatQuantity(numFailed, "chore")} that failed, and what was skipped because of that, will run again with fresh budgets of attempts.`,
        }}
        isOffered={numFailed > 0}
      >
        Retry failed
      </ActionButton>
    </div>
  );
}
