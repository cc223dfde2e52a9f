import type { Freshness } from "../api/client";
import { formatPercent } from "../lib/format";
import { Notice } from "./Notice";

/** Says so when what is shown is not yet, or not any more, all that there is. */
export function FreshnessLine({ freshness }: { freshness: Freshness | undefined }) {
  if (freshness === undefined) {
    return null;
  }
  if (freshness.problem !== "") {
    return (
      <Notice tone="caution" title="What follows is not complete">
        <p>{freshness.problem}</p>
      </Notice>
    );
  }
  return freshness.is_complete ? null : (
    <p className="more" role="status">
      Indexed {formatPercent(Math.floor(1000 * freshness.share), 1000)} of the run; the numbers still
      grow.
    </p>
  );
}
