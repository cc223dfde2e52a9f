import type { Counts } from "../api/client";
import { countEnded } from "../lib/counts";
import { formatCount, formatPercent } from "../lib/format";
import { ProgressBar } from "./ProgressBar";

const LEGEND = ["completed", "running", "pending", "failed", "cancelled"] as const;

interface ProgressProps {
  counts: Counts;
  /** How many failed by themselves; the other failures follow from these. */
  numRootFailures: number;
}

/** All chores of the run: one bar and the counts. */
export function Progress({ counts, numRootFailures }: ProgressProps) {
  const numSkipped = Math.max(0, counts.failed - numRootFailures);
  const ended = countEnded(counts);
  return (
    <section className="progress" aria-label="Progress">
      <p className="progress-head">
        <strong>{formatPercent(ended, counts.total)}</strong>
        <span>
          {formatCount(ended)} of {formatCount(counts.total)} chores ended
        </span>
      </p>
      <ProgressBar counts={counts} label="All chores" />
      <dl className="legend">
        {LEGEND.map((name) => (
          <div key={name} className={counts[name] === 0 ? "is-zero" : undefined}>
            <dt>
              <svg className="swatch" viewBox="0 0 10 10" aria-hidden="true" focusable="false">
                <rect className={`fill-${name}`} width="10" height="10" rx="2" />
              </svg>
              {name}
            </dt>
            <dd>
              {formatCount(counts[name])}
              {name === "failed" && numSkipped > 0 && (
                <span className="of"> ({formatCount(numSkipped)} skipped)</span>
              )}
            </dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
