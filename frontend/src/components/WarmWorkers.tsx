import { Fragment } from "react";
import { Link } from "react-router";

import { useGroups } from "../api/useGroups";
import { choresAddress } from "../lib/choreAddress";
import { formatCount, formatQuantity } from "../lib/format";

const MAX_NAMED = 5;

/** How much of the run warm workers served, in one line; nothing where it was nothing. */
export function WarmWorkers({ runId }: { runId: string }) {
  const { data } = useGroups(runId);
  if (data === undefined || data.num_pooled === 0) {
    return null;
  }
  const pooled = data.groups
    .filter((group) => group.num_pooled > 0)
    .sort((one, other) => other.num_pooled - one.num_pooled);
  const named = pooled.slice(0, MAX_NAMED);
  return (
    <p className="more">
      {formatCount(data.num_pooled)} of {formatQuantity(data.num_pooled + data.num_jobs, "attempt")} went to
      warm workers:{" "}
      {named.map(({ name, num_pooled }, index) => (
        <Fragment key={name}>
          {index > 0 && ", "}
          <Link className="name" to={choresAddress(runId, { group: name })}>
            {name}
          </Link>{" "}
          {formatCount(num_pooled)}
        </Fragment>
      ))}
      {pooled.length > named.length && ` and ${formatQuantity(pooled.length - named.length, "more group")}`}
    </p>
  );
}
