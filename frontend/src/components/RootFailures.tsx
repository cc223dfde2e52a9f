import { Link } from "react-router";

import { useFailures, type FailureCluster } from "../api/useFailures";
import { formatCount, formatReason } from "../lib/format";
import { ErrorNotice } from "./ErrorNotice";
import { ScrollTable } from "./ScrollTable";

const MAX_SHOWN = 5;

/** The most frequent causes of failures; all of them stand on a page of their own. */
export function RootFailures({ runId }: { runId: string }) {
  const { data, error } = useFailures(runId);
  if (data === undefined) {
    return error === null ? null : <ErrorNotice error={error} />;
  }
  return data.clusters.length === 0 ? null : (
    <section>
      <h2>Failures by cause</h2>
      <CauseTable clusters={data.clusters.slice(0, MAX_SHOWN)} runId={runId} />
      <p className="more">
        <Link to={`/runs/${encodeURIComponent(runId)}/failures`}>
          {data.num_clusters > MAX_SHOWN
            ? `All ${formatCount(data.num_clusters)} causes, with examples`
            : "With examples of what they printed"}
        </Link>
      </p>
    </section>
  );
}

function CauseTable({ clusters, runId }: { clusters: readonly FailureCluster[]; runId: string }) {
  return (
    <ScrollTable label="Failures by cause">
      <thead>
        <tr>
          <th scope="col">Cause</th>
          <th scope="col" className="number">
            Failed
          </th>
          <th scope="col" className="number">
            Skipped by it
          </th>
        </tr>
      </thead>
      <tbody>
        {clusters.map(({ id, reason, pattern, failed, skipped }) => (
          <tr key={id}>
            <th scope="row" className="detail">
              <Link to={`/runs/${encodeURIComponent(runId)}/failures?cause=${id}`}>
                {formatReason(reason)}
              </Link>{" "}
              {pattern !== "" && <span className="of">{pattern}</span>}
            </th>
            <td className="number is-bad">{formatCount(failed)}</td>
            <td className={skipped === 0 ? "number is-zero" : "number"}>{formatCount(skipped)}</td>
          </tr>
        ))}
      </tbody>
    </ScrollTable>
  );
}
