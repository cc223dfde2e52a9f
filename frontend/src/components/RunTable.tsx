import { Link } from "react-router";

import type { Run } from "../api/client";
import { countEnded } from "../lib/counts";
import { formatCount, formatDuration, formatHours, formatPercent, formatRate } from "../lib/format";
import { Ago } from "./Ago";
import { ProgressBar } from "./ProgressBar";
import { ScrollTable } from "./ScrollTable";
import { StateBadge } from "./StateBadge";
import "./RunTable.css";

interface RunTableProps {
  runs: readonly Run[];
  /** Ids of those that are to be compared: two at most. */
  picked: readonly string[];
  onPick: (ids: string[]) => void;
}

export function RunTable({ runs, picked, onPick }: RunTableProps) {
  const canPick = runs.length > 1;
  return (
    <ScrollTable label="Runs" className="run-table">
      <thead>
        <tr>
          {canPick && (
            <th scope="col">
              <span className="unseen">Compare</span>
            </th>
          )}
          <th scope="col">Run</th>
          <th scope="col">State</th>
          <th scope="col" className="progress-column">
            Progress
          </th>
          <th scope="col" className="number">
            Failures
          </th>
          <th scope="col" className="number">
            Rate
          </th>
          <th scope="col" className="number">
            Time left
          </th>
          <th scope="col" className="number">
            Elapsed
          </th>
          <th scope="col" className="number">
            Node-hours
          </th>
          <th scope="col" className="number">
            Started
          </th>
        </tr>
      </thead>
      <tbody>
        {runs.map((run) => (
          <tr key={run.id}>
            {canPick && (
              <td className="pick">
                <Pick id={run.id} picked={picked} onPick={onPick} />
              </td>
            )}
            <th scope="row" className="name">
              <Link to={`/runs/${encodeURIComponent(run.id)}`}>{run.id}</Link>
            </th>
            <td className="state nowrap">
              <StateBadge run={run} />
            </td>
            <RunCells run={run} />
          </tr>
        ))}
      </tbody>
    </ScrollTable>
  );
}

function Pick({ id, picked, onPick }: { id: string } & Omit<RunTableProps, "runs">) {
  const isPicked = picked.includes(id);
  return (
    <input
      type="checkbox"
      aria-label={`Compare ${id}`}
      checked={isPicked}
      disabled={!isPicked && picked.length === 2}
      onChange={() => {
        onPick(isPicked ? picked.filter((other) => other !== id) : [...picked, id]);
      }}
    />
  );
}

/** What was published, with labels for the phone, where no head is shown; of a run that has published nothing, why. */
function RunCells({ run }: { run: Run }) {
  const { status } = run;
  if (status == null) {
    return (
      <td colSpan={7} className="nothing-published">
        {run.problem === "" ? run.advice : run.problem} {run.command !== null && <code>{run.command}</code>}
      </td>
    );
  }
  const { counts, num_root_failures: numFailures } = status;
  return (
    <>
      <td className="progress-column">
        <div className="bar-cell">
          <ProgressBar counts={counts} label={`Chores of ${run.id}`} />
          <span className="percent">{formatPercent(countEnded(counts), counts.total)}</span>
          <span className="of-total">of {formatCount(counts.total)}</span>
        </div>
      </td>
      <td data-label="Failures" className={numFailures > 0 ? "number is-bad" : "number is-zero"}>
        {formatCount(numFailures)}
      </td>
      <td data-label="Rate" className="number">
        {status.rate > 0 && run.health === "alive" ? formatRate(status.rate) : "–"}
      </td>
      <td data-label="Time left" className="number">
        {run.eta_seconds === null ? "–" : formatDuration(run.eta_seconds)}
      </td>
      <td data-label="Elapsed" className="number">
        {run.elapsed_seconds === null ? "–" : formatDuration(run.elapsed_seconds)}
      </td>
      <td data-label="Node-hours" className="number">
        {run.node_hours === null ? "–" : formatHours(run.node_hours)}
      </td>
      <td data-label="Started" className="number">
        {status.started_at === null ? "–" : <Ago at={status.started_at} />}
      </td>
    </>
  );
}
