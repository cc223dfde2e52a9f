import { Facts } from "../components/Facts";
import { GroupTable } from "../components/GroupTable";
import { Progress } from "../components/Progress";
import { RootFailures } from "../components/RootFailures";
import { RunAdvice } from "../components/RunAdvice";
import { RunCharts } from "../components/RunCharts";
import { RunHistory } from "../components/RunHistory";
import { WaitingTable } from "../components/WaitingTable";
import { WarmWorkers } from "../components/WarmWorkers";
import { useRun } from "../shell/run";
import "./OverviewPage.css";

/** Where the run stands, by aggregates only. */
export function OverviewPage() {
  const run = useRun();
  const { status } = run;
  if (status == null) {
    return <p className="loading">Nothing was published yet.</p>;
  }
  // Of one that was interrupted or lost, a notice on every page tells.
  const hasEnded = run.health === "ended" && status.state !== "interrupted";
  return (
    <>
      <h2 className="unseen">Overview</h2>
      <Progress counts={status.counts} numRootFailures={status.num_root_failures} />
      <Facts run={run} status={status} />
      {hasEnded && <RunAdvice run={run} />}
      <RootFailures runId={run.id} />
      <RunCharts runId={run.id} />
      {status.counts.pending > 0 && <WaitingTable runId={run.id} />}
      {Object.keys(status.groups).length > 0 ? (
        <>
          <GroupTable runId={run.id} groups={status.groups} />
          <WarmWorkers runId={run.id} />
        </>
      ) : (
        <p className="loading">No chores yet.</p>
      )}
      <RunHistory runId={run.id} />
    </>
  );
}
