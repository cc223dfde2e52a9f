import type { ChoreState } from "../../api/client";
import { CHORE_STATES, presentChoreState } from "../../lib/choreState";
import { formatCount } from "../../lib/format";

/** In the order in which they are drawn; what is pending is the empty rest. */
const DRAWN = ["completed", "failed", "skipped", "cancelled", "running", "submitted"] as const;

type States = Readonly<Partial<Record<ChoreState, number>>>;

/** Shares of states as one bar; who uses it says the numbers beside it, or by `describeStates`. */
export function StatesBar({ states }: { states: States }) {
  const total = Object.values(states).reduce((sum, count) => sum + count, 0);
  const percent = (count: number) => `${total === 0 ? 0 : (100 * count) / total}%`;
  const numBefore = (place: number) =>
    DRAWN.slice(0, place).reduce((sum, state) => sum + (states[state] ?? 0), 0);
  return (
    <div className="bar">
      <svg aria-hidden="true" focusable="false">
        {DRAWN.map((state, place) => (
          <rect
            key={state}
            className={presentChoreState(state).fill}
            x={percent(numBefore(place))}
            width={percent(states[state] ?? 0)}
            height="100%"
          />
        ))}
      </svg>
    </div>
  );
}

/** "980 completed, 20 failed". */
export function describeStates(states: States): string {
  return CHORE_STATES.filter((state) => (states[state] ?? 0) > 0)
    .map((state) => `${formatCount(states[state] ?? 0)} ${presentChoreState(state).word}`)
    .join(", ");
}
