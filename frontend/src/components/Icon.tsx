/** Signs that stand beside a word, never instead of one. */
import type { Tone } from "../lib/runState";

const PATHS: Record<Tone, string> = {
  active: "M5.5 3.5v9l7-4.5z",
  good: "M3.5 8.5l3 3 6-7",
  bad: "M4.5 4.5l7 7M11.5 4.5l-7 7",
  caution: "M8 3.5v5.5M8 11.5v1",
  quiet: "M4 8h8",
};

export function Icon({ tone }: { tone: Tone }) {
  return (
    <svg className={`icon icon-${tone}`} viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={PATHS[tone]} />
    </svg>
  );
}
