import type { Counts } from "../api/client";
import { countEnded } from "../lib/counts";
import { formatCount, formatPercent } from "../lib/format";

/** In the order in which they are drawn; what is pending is the empty rest. */
const SEGMENTS = ["completed", "failed", "cancelled", "running"] as const;

interface ProgressBarProps {
  counts: Counts;
  label: string;
}

/**
 * Shares of the counts as one bar.
 *
 * Drawn with attributes rather than styles, which the content security policy would not allow.
 */
export function ProgressBar({ counts, label }: ProgressBarProps) {
  const percent = (num: number) => `${counts.total === 0 ? 0 : (100 * num) / counts.total}%`;
  const numBefore = (index: number) =>
    SEGMENTS.slice(0, index).reduce((sum, name) => sum + counts[name], 0);
  return (
    <div
      className="bar"
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={counts.total}
      aria-valuenow={countEnded(counts)}
      aria-valuetext={`${formatPercent(countEnded(counts), counts.total)}: ${describe(counts)}`}
    >
      <svg aria-hidden="true" focusable="false">
        {SEGMENTS.map((name, index) => (
          <rect
            key={name}
            className={`fill-${name}`}
            x={percent(numBefore(index))}
            width={percent(counts[name])}
            height="100%"
          />
        ))}
      </svg>
    </div>
  );
}

function describe(counts: Counts): string {
  return SEGMENTS.filter((name) => counts[name] > 0)
    .map((name) => `${formatCount(counts[name])} ${name}`)
    .concat(`${formatCount(counts.pending)} pending`)
    .join(", ");
}
