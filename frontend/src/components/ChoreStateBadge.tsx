/** The state of a chore as sign and word: plain in a table, framed in a head. */
import type { ChoreState } from "../api/client";
import { presentChoreState } from "../lib/choreState";

/** Sign and word. */
export function ChoreStateMark({ state }: { state: ChoreState }) {
  const { tone, word } = presentChoreState(state);
  return (
    <span className={`chore-state tone-${tone}`}>
      <ChoreStateSign state={state} />
      {word}
    </span>
  );
}

/** Sign and word in a frame. */
export function ChoreStateBadge({ state }: { state: ChoreState }) {
  const { tone, word } = presentChoreState(state);
  return (
    <span className={`badge tone-${tone}`}>
      <ChoreStateSign state={state} />
      {word}
    </span>
  );
}

/** The sign alone, for beside a word. */
export function ChoreStateSign({ state }: { state: ChoreState }) {
  const { sign, isSolid } = presentChoreState(state);
  return (
    <svg
      className={isSolid ? "icon icon-solid" : "icon"}
      viewBox="0 0 16 16"
      aria-hidden="true"
      focusable="false"
    >
      <path d={sign} />
    </svg>
  );
}
