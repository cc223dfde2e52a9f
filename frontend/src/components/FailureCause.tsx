import { Link } from "react-router";

import type { Schemas } from "../api/client";
import { useExplanation } from "../api/useChore";
import { useFailureHosts, type FailureCluster } from "../api/useFailures";
import { choreAddress, choresAddress } from "../lib/choreAddress";
import { formatCount, formatQuantity, formatReason } from "../lib/format";
import { ErrorNotice } from "./ErrorNotice";
import { Icon } from "./Icon";

const MAX_HOSTS = 12;

interface FailureCauseProps {
  runId: string;
  cluster: FailureCluster;
  isOpen: boolean;
  onToggle: (isOpen: boolean) => void;
}

/** Failures that have reason and wording in common; opened, what one of them printed. */
export function FailureCause({ runId, cluster, isOpen, onToggle }: FailureCauseProps) {
  const { id, reason, pattern, failed, skipped } = cluster;
  return (
    <details
      className="cause"
      open={isOpen}
      onToggle={(event) => {
        onToggle(event.currentTarget.open);
      }}
    >
      <summary>
        <span className="cause-title">
          <Icon tone="bad" />
          <strong>{formatReason(reason)}</strong> <span className="detail">{pattern}</span>
        </span>
        <span className="cause-counts">
          <span className="is-bad">{formatCount(failed)} failed</span>
          {skipped > 0 && <span>{formatCount(skipped)} skipped</span>}
        </span>
      </summary>
      {isOpen && (
        <div className="cause-body">
          <p className="cause-links">
            <Link to={choresAddress(runId, { cluster: id, state: "failed" })}>
              {failed === 1 ? "The chore that failed" : `All ${formatCount(failed)} that failed`}
            </Link>
            {skipped > 0 && (
              <Link to={choresAddress(runId, { cluster: id, state: "skipped" })}>
                {formatQuantity(skipped, "chore")} skipped because of {failed === 1 ? "it" : "them"}
              </Link>
            )}
          </p>
          <Hosts runId={runId} cluster={id} />
          <Sample runId={runId} choreId={cluster.sample.id} />
        </div>
      )}
    </details>
  );
}

/** One node that breaks everything shows here. */
function Hosts({ runId, cluster }: { runId: string; cluster: number }) {
  const { data } = useFailureHosts(runId, cluster);
  if (data === undefined || data.hosts.every(([host]) => host === "")) {
    return null;
  }
  const { hosts, lookedAt, total } = data;
  return (
    <p>
      On {formatQuantity(hosts.length, "node")}
      {lookedAt < total && ` (of the first ${formatCount(lookedAt)} chores)`}:{" "}
      {hosts.slice(0, MAX_HOSTS).map(([host, count], index) => (
        <span key={host}>
          {index > 0 && ", "}
          {host === "" ? (
            "unknown"
          ) : (
            <Link to={choresAddress(runId, { cluster, host, state: "failed" })}>{host}</Link>
          )}{" "}
          <span className="of">{formatCount(count)}</span>
        </span>
      ))}
      {hosts.length > MAX_HOSTS && ` and ${formatCount(hosts.length - MAX_HOSTS)} more`}
    </p>
  );
}

/** Why the first of them failed, in its own words. */
function Sample({ runId, choreId }: { runId: string; choreId: string }) {
  const { data, error } = useExplanation(runId, choreId);
  return (
    <>
      <p>
        For example{" "}
        <Link className="name" to={choreAddress(runId, choreId)}>
          {choreId}
        </Link>
        {data?.failure?.detail != null && data.failure.detail !== "" && <>: {data.failure.detail}</>}
      </p>
      {data === undefined && error === null && <p className="loading">Reading what it printed…</p>}
      {error !== null && <ErrorNotice error={error} hasData={data !== undefined} />}
      {data?.failure != null && <Evidence failure={data.failure} />}
    </>
  );
}

function Evidence({ failure }: { failure: NonNullable<Schemas["ExplanationResponse"]["failure"]> }) {
  return (
    <>
      <p className="lead">
        {failure.meaning} {failure.advice}
      </p>
      {failure.traceback !== "" && <Printed title="Traceback" text={failure.traceback} isOpen />}
      {failure.outputs.map(({ stream, lines }) => (
        <Printed
          key={stream}
          title={`Last lines of ${stream}`}
          text={lines.join("\n")}
          // A traceback is printed there as well.
          isOpen={failure.traceback === ""}
        />
      ))}
    </>
  );
}

function Printed({ title, text, isOpen }: { title: string; text: string; isOpen: boolean }) {
  return (
    <details className="printed" open={isOpen}>
      <summary>{title}</summary>
      <div className="printed-text" role="region" aria-label={title} tabIndex={0}>
        <pre>{text}</pre>
      </div>
    </details>
  );
}
