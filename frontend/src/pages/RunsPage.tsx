import { Link, Navigate, useSearchParams } from "react-router";

import { BASE_URL, type Run } from "../api/client";
import { useRuns } from "../api/useRun";
import { useSettings } from "../api/useSettings";
import { ErrorNotice } from "../components/ErrorNotice";
import { RunTable } from "../components/RunTable";
import { formatCount, formatQuantity } from "../lib/format";
import { useTitle } from "../shell/useTitle";
import "./RunsPage.css";

/** The runs of the folder; where the dashboard was started for one run, that run. */
export function RunsPage() {
  const settings = useSettings();
  const { data, error } = useRuns();
  useTitle("Runs");
  const [only] = data?.runs ?? [];
  if (settings?.is_single_run === true && only !== undefined) {
    return <Navigate to={`/runs/${encodeURIComponent(only.id)}`} replace />;
  }
  return (
    <>
      <h1>Runs</h1>
      {error !== null && <ErrorNotice error={error} hasData={data !== undefined} />}
      {data === undefined && error === null && <p className="loading">Looking for runs…</p>}
      {data?.runs.length === 0 && <NoRuns root={settings?.root ?? "…"} />}
      {data !== undefined && data.runs.length > 0 && <Runs runs={data.runs} total={data.total} />}
    </>
  );
}

function Runs({ runs, total }: { runs: readonly Run[]; total: number }) {
  const [params, setParams] = useSearchParams();
  const picked = params.getAll("pick").filter((id) => runs.some((run) => run.id === id));
  const pick = (ids: string[]) => {
    setParams({ pick: ids }, { replace: true });
  };
  return (
    <>
      <div className="runs-head">
        <p>
          {runs.length < total
            ? `Showing the newest ${formatCount(runs.length)} of ${formatCount(total)} runs.`
            : formatQuantity(total, "run")}
        </p>
        <div className="runs-tools">
          {runs.length > 1 && <Comparison runs={runs} picked={picked} />}
          <a href={`${BASE_URL}api/v1/runs?format=csv`} download>
            Download as CSV
          </a>
        </div>
      </div>
      <RunTable runs={runs} picked={picked} onPick={pick} />
    </>
  );
}

/** Two are compared in the order in which they were started. */
function Comparison({ runs, picked }: { runs: readonly Run[]; picked: readonly string[] }) {
  const [b, a] = runs.filter(({ id }) => picked.includes(id));
  if (a === undefined || b === undefined) {
    return (
      <p className="of">{b === undefined ? "Pick two runs to compare them." : "Pick one more to compare."}</p>
    );
  }
  return (
    <Link className="button" to={`/compare?${new URLSearchParams({ a: a.id, b: b.id }).toString()}`}>
      Compare the two
    </Link>
  );
}

const EXAMPLE = `from matensemble.pipeline import Pipeline

pipe = Pipeline()

@pipe.chore
def energy(volume):
    return 0.5 * (volume - 16.5) ** 2 - 3.0

energy.map([14.5, 15.5, 16.5])
pipe.submit(progress=True).result()`;

/** The first that a new user sees. */
function NoRuns({ root }: { root: string }) {
  return (
    <section className="no-runs">
      <h2>No runs in “{root}” yet</h2>
      <p>
        A run is a folder that a pipeline makes in the folder where it is started. Save this as{" "}
        <code>study.py</code> there:
      </p>
      <pre>
        <code>{EXAMPLE}</code>
      </pre>
      <p>
        and start it with <code>python study.py</code>. It appears here within seconds, without
        reloading. Where the runs are elsewhere: <code>matensemble dashboard FOLDER</code>.
      </p>
    </section>
  );
}
