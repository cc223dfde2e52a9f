import { useEffect } from "react";

import { ApiError } from "../api/client";
import { useRunStatus, type Snapshot } from "../api/useRunStatus";
import { Facts } from "../components/Facts";
import { FailureTable } from "../components/FailureTable";
import { GroupTable } from "../components/GroupTable";
import { HealthNotice } from "../components/HealthNotice";
import { Notice } from "../components/Notice";
import { Progress } from "../components/Progress";
import { StateBadge } from "../components/StateBadge";
import { countEnded } from "../lib/counts";
import { formatPercent } from "../lib/format";
import { judgeHealth } from "../lib/health";
import { isTerminal, presentState } from "../lib/runState";
import { useNow } from "../lib/useNow";

/** The page of one run. */
export function RunPage() {
  const { data, error } = useRunStatus();
  return (
    <main>
      {data === undefined && <h1>MatEnsemble</h1>}
      {error !== null && <ErrorNotice error={error} hasData={data !== undefined} />}
      {data !== undefined && <Run snapshot={data} />}
      {data === undefined && error === null && (
        <p className="loading" role="status">
          Reading the status…
        </p>
      )}
    </main>
  );
}

function Run({ snapshot }: { snapshot: Snapshot }) {
  const { status, clockOffset } = snapshot;
  const now = useNow(!isTerminal(status.state)) + clockOffset;
  const ended = countEnded(status.counts);
  const health = judgeHealth(status, now);
  const { word } = presentState(status.state);
  const title = `${formatPercent(ended, status.counts.total)} ${word.toLowerCase()} · ${status.run}`;
  useEffect(() => {
    document.title = title;
  }, [title]);
  return (
    <>
      <header>
        <h1>{status.run}</h1>
        <StateBadge state={status.state} />
        {status.detail !== "" && <p className="detail">{status.detail}</p>}
      </header>
      <HealthNotice health={health} status={status} />
      <Progress counts={status.counts} />
      <Facts status={status} health={health} now={now} />
      {status.num_root_failures > 0 && <FailureTable status={status} />}
      {Object.keys(status.groups).length > 0 ? (
        <GroupTable groups={status.groups} />
      ) : (
        <p className="loading">No chores yet.</p>
      )}
    </>
  );
}

/** Why there is nothing to show, or why what is shown may be old. */
function ErrorNotice({ error, hasData }: { error: Error; hasData: boolean }) {
  const { title, text, tone } = explain(error);
  return (
    <Notice tone={tone} title={title}>
      <p>{text}</p>
      {hasData && <p>What follows is the last that was seen.</p>}
    </Notice>
  );
}

function explain(error: Error): { title: string; text: string; tone: "bad" | "caution" | "quiet" } {
  if (!(error instanceof ApiError)) {
    const text =
      "Its process may have ended with the run, or the tunnel may be closed. This page tries again every two seconds.";
    return { title: "The dashboard does not answer", text, tone: "bad" };
  }
  if (error.status === 401) {
    return { title: "This page needs its link", text: error.message, tone: "caution" };
  }
  if (error.status === 404) {
    return { title: "Nothing has run yet", text: error.message, tone: "quiet" };
  }
  return { title: "The status cannot be shown", text: error.message, tone: "bad" };
}
