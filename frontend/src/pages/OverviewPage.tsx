import { Facts } from "../components/Facts";
import { FailureTable } from "../components/FailureTable";
import { GroupTable } from "../components/GroupTable";
import { Progress } from "../components/Progress";
import { serverNow } from "../api/serverClock";
import { isTerminal } from "../lib/runState";
import { judgeHealth } from "../lib/health";
import { useNow } from "../lib/useNow";
import { useRun } from "../shell/run";

/** Where the run stands, by aggregates only. */
export function OverviewPage() {
  const { status } = useRun();
  useNow(status != null && !isTerminal(status.state));
  if (status == null) {
    return <p className="loading">Nothing was published yet.</p>;
  }
  const now = serverNow();
  return (
    <>
      <Progress counts={status.counts} />
      <Facts status={status} health={judgeHealth(status, now)} now={now} />
      {status.num_root_failures > 0 && <FailureTable status={status} />}
      {Object.keys(status.groups).length > 0 ? (
        <GroupTable groups={status.groups} />
      ) : (
        <p className="loading">No chores yet.</p>
      )}
    </>
  );
}
