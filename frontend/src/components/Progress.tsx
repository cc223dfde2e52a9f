import type { Counts } from "../api/client";
import { countEnded } from "../lib/counts";
import { formatCount, formatPercent } from "../lib/format";
import { ProgressBar } from "./ProgressBar";

const LEGEND = ["completed", "running", "pending", "failed", "cancelled"] as const;

/** All chores of the run: one bar and the counts. */
export function Progress({ counts }: { counts: Counts }) {
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
            <dd>{formatCount(counts[name])}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
