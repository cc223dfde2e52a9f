import type { Run } from "../api/client";
import { presentRun } from "../lib/runState";
import { Icon } from "./Icon";

export function StateBadge({ run }: { run: Run }) {
  const { tone, word } = presentRun(run);
  return (
    <span className={`badge tone-${tone}`}>
      <Icon tone={tone} />
      {word}
    </span>
  );
}
