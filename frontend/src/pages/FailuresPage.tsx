import { useSearchParams } from "react-router";

import { useFailures, type FailureCluster } from "../api/useFailures";
import { ErrorNotice } from "../components/ErrorNotice";
import { FailureCause } from "../components/FailureCause";
import { FreshnessLine } from "../components/FreshnessLine";
import { Icon } from "../components/Icon";
import { formatQuantity } from "../lib/format";
import { useRun } from "../shell/run";
import "./FailuresPage.css";

/** Failures by their cause; what was skipped stands under the failure that it follows from. */
export function FailuresPage() {
  const run = useRun();
  const { data, error } = useFailures(run.id);
  return (
    <>
      <h2>Failures by cause</h2>
      {error !== null && <ErrorNotice error={error} hasData={data !== undefined} />}
      {data === undefined && error === null && <p className="loading">Reading the failures…</p>}
      <FreshnessLine freshness={data?.freshness} />
      {data?.clusters.length === 0 && (
        <p className="no-failures">
          <Icon tone="good" /> No failures{data.freshness.is_complete ? "." : " so far."}
        </p>
      )}
      {data !== undefined && data.clusters.length > 0 && (
        <Causes runId={run.id} clusters={data.clusters} />
      )}
    </>
  );
}

/** The address holds which of them are open. */
function Causes({ runId, clusters }: { runId: string; clusters: readonly FailureCluster[] }) {
  const [params, setParams] = useSearchParams();
  const opened = params.getAll("cause");
  const toggle = (cause: string, isOpen: boolean) => {
    if (isOpen !== opened.includes(cause)) {
      const rest = opened.filter((one) => one !== cause);
      setParams({ cause: isOpen ? [...rest, cause] : rest }, { replace: true });
    }
  };
  const numFailed = clusters.reduce((sum, { failed }) => sum + failed, 0);
  const numSkipped = clusters.reduce((sum, { skipped }) => sum + skipped, 0);
  return (
    <>
      <p className="lead">
        {formatQuantity(numFailed, "chore")} failed for {formatQuantity(clusters.length, "cause")}
        {numSkipped > 0 && `; ${formatQuantity(numSkipped, "chore")} could not run because of that`}.
      </p>
      {clusters.map((cluster) => (
        <FailureCause
          key={cluster.id}
          runId={runId}
          cluster={cluster}
          isOpen={opened.includes(String(cluster.id))}
          onToggle={(isOpen) => {
            toggle(String(cluster.id), isOpen);
          }}
        />
      ))}
    </>
  );
}
