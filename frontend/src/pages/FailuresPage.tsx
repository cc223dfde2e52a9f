import { useState } from "react";
import { useSearchParams } from "react-router";

import type { Schemas } from "../api/client";
import { useFailures } from "../api/useFailures";
import { ErrorNotice } from "../components/ErrorNotice";
import { FailureCause } from "../components/FailureCause";
import { FreshnessLine } from "../components/FreshnessLine";
import { Icon } from "../components/Icon";
import { formatCount, formatQuantity } from "../lib/format";
import { useRun } from "../shell/run";
import "./FailuresPage.css";

/** Of so few causes the first is open without being asked for. */
const FEW = 3;

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
        <Causes runId={run.id} failures={data} />
      )}
    </>
  );
}

/** The address holds which of them are open, once the reader has opened or closed one. */
function Causes({ runId, failures }: { runId: string; failures: Schemas["FailuresResponse"] }) {
  const { clusters, num_clusters: numCauses, num_failed: numFailed, num_skipped: numSkipped } = failures;
  const [params, setParams] = useSearchParams();
  // As it was when the page came: another may become the first while this one is read.
  const [first] = useState(clusters.length > FEW ? [] : clusters.slice(0, 1).map(({ id }) => String(id)));
  const opened = params.has("cause") ? params.getAll("cause") : first;
  const toggle = (cause: string, isOpen: boolean) => {
    if (isOpen !== opened.includes(cause)) {
      const rest = opened.filter((one) => one !== cause && one !== "");
      const next = isOpen ? [...rest, cause] : rest;
      setParams({ cause: next.length > 0 ? next : "" }, { replace: true });
    }
  };
  return (
    <>
      <p className="lead">
        {formatQuantity(numFailed, "chore")} failed for {formatQuantity(numCauses, "cause")}
        {numSkipped > 0 && `; ${formatQuantity(numSkipped, "chore")} could not run because of that`}.
        {clusters.length < numCauses && ` The first ${formatCount(clusters.length)} causes are listed.`}
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
