import type { RunState } from "../api/client";
import { presentState } from "../lib/runState";
import { Icon } from "./Icon";

export function StateBadge({ state }: { state: RunState }) {
  const { tone, word } = presentState(state);
  return (
    <span className={`badge tone-${tone}`} role="status">
      <Icon tone={tone} />
      {word}
    </span>
  );
}
