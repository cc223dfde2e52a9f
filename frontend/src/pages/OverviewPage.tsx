import { Facts } from "../components/Facts";
import { GroupTable } from "../components/GroupTable";
import { Progress } from "../components/Progress";
import { RootFailures } from "../components/RootFailures";
import { RunCharts } from "../components/RunCharts";
import { RunHistory } from "../components/RunHistory";
import { WaitingTable } from "../components/WaitingTable";
import { useRun } from "../shell/run";
import "./OverviewPage.css";

/** Where the run stands, by aggregates only. */
export function OverviewPage() {
  const run = useRun();
  const { status } = run;
  if (status == null) {
    return <p className="loading">Nothing was published yet.</p>;
  }
  return (
    <>
      <h2 className="unseen">Overview</h2>
      <Progress counts={status.counts} />
      <Facts run={run} status={status} />
      <RunCharts runId={run.id} />
      <RootFailures runId={run.id} />
      <WaitingTable runId={run.id} />
      {Object.keys(status.groups).length > 0 ? (
        <GroupTable runId={run.id} groups={status.groups} />
      ) : (
        <p className="loading">No chores yet.</p>
      )}
      <RunHistory runId={run.id} />
    </>
  );
}
