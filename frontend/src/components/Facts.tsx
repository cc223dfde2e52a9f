import type { ReactNode } from "react";

import type { Run, RunStatus } from "../api/client";
import { serverNow } from "../api/serverClock";
import {
  formatCount,
  formatDuration,
  formatHours,
  formatInstant,
  formatQuantity,
  formatRate,
} from "../lib/format";
import { useNow } from "../lib/useNow";
import { Ago } from "./Ago";

/** What the run holds and how fast it goes. */
export function Facts({ run, status }: { run: Run; status: RunStatus }) {
  const isAlive = run.health === "alive";
  const isOver = status.ended_at !== null && !isAlive;
  useNow(isAlive);
  const elapsed = isAlive
    ? (serverNow() - Date.parse(status.started_at ?? "")) / 1000
    : (run.elapsed_seconds ?? NaN);
  return (
    <dl className="facts">
      {isAlive && <Pace run={run} status={status} />}
      <Fact name={isOver ? "Took" : isAlive ? "Running for" : "Ran until the last news"}>
        {Number.isNaN(elapsed) ? "–" : formatDuration(elapsed)}
      </Fact>
      {run.node_hours !== null && <Fact name="Node-hours">{formatHours(run.node_hours)}</Fact>}
      <Instant name="Started" at={status.started_at} />
      <Instant name={isOver ? "Ended" : "Updated"} at={isOver ? status.ended_at : status.updated_at} />
      {!isOver && <AllocationEnd at={status.ends_at} />}
      {status.executor !== "" && (
        <Fact name="Executor">
          {status.executor}
          {status.num_nodes > 0 && `, ${formatQuantity(status.num_nodes, "node")}`}
        </Fact>
      )}
      {status.host !== "" && <Fact name="Driver on">{status.host}</Fact>}
    </dl>
  );
}

/** What only a living driver can be asked. */
function Pace({ run, status }: { run: Run; status: RunStatus }) {
  return (
    <>
      <Held name="Cores busy" total={status.total_cores} free={status.free_cores} />
      <Held name="GPUs busy" total={status.total_gpus} free={status.free_gpus} />
      <Fact name="Rate">{status.rate > 0 ? formatRate(status.rate) : "–"}</Fact>
      <Fact name="Left, at this rate">
        {run.eta_seconds === null ? "–" : `about ${formatDuration(run.eta_seconds)}`}
      </Fact>
    </>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Held({ name, total, free }: { name: string; total: number; free: number }) {
  return total === 0 ? null : (
    <Fact name={name}>
      {formatCount(total - free)} <span className="of">of {formatCount(total)}</span>
    </Fact>
  );
}

/** How long the nodes are ours; one that is over may be why the driver is silent. */
function AllocationEnd({ at }: { at: string | null }) {
  const left = (Date.parse(at ?? "") - serverNow()) / 1000;
  return at === null || Number.isNaN(left) ? null : (
    <Fact name={left > 0 ? "Allocation ends" : "Allocation ended"}>
      {left > 0 ? (
        <time dateTime={at} title={formatInstant(at)}>
          in {formatDuration(left)}
        </time>
      ) : (
        <Ago at={at} />
      )}
    </Fact>
  );
}

function Instant({ name, at }: { name: string; at: string | null }) {
  return at === null ? null : (
    <Fact name={name}>
      {name === "Started" ? formatInstant(at) : <Ago at={at} />}
    </Fact>
  );
}
