import type { ReactNode } from "react";

import type { RunStatus } from "../api/client";
import { formatCount, formatDuration, formatInstant, formatQuantity, formatRate } from "../lib/format";
import type { Health } from "../lib/health";

interface FactsProps {
  status: RunStatus;
  health: Health;
  /** Milliseconds since 1970 by the server's clock. */
  now: number;
}

/** What the run holds and how fast it goes. */
export function Facts({ status, health, now }: FactsProps) {
  const isOver = health.kind === "ended";
  const isLost = health.kind === "lost";
  return (
    <dl className="facts">
      {isOver || isLost || <Pace status={status} />}
      <Fact name={isOver ? "Took" : isLost ? "Ran until the last news" : "Running for"}>
        {status.started_at === null
          ? "–"
          : formatDuration(elapsedSeconds(status, isLost ? Date.parse(status.updated_at ?? "") : now))}
      </Fact>
      <Instant name="Started" at={status.started_at} />
      {isOver ? (
        <Instant name="Ended" at={status.ended_at} />
      ) : (
        <Instant name="Updated" at={status.updated_at} />
      )}
      {status.executor === "" || (
        <Fact name="Executor">
          {status.executor}
          {status.num_nodes > 0 && `, ${formatQuantity(status.num_nodes, "node")}`}
        </Fact>
      )}
      {status.host === "" || <Fact name="Driver">{status.host}</Fact>}
    </dl>
  );
}

/** What only a living driver can be asked. */
function Pace({ status }: { status: RunStatus }) {
  const left = status.counts.pending + status.counts.running;
  return (
    <>
      <Held name="Cores busy" total={status.total_cores} free={status.free_cores} />
      <Held name="GPUs busy" total={status.total_gpus} free={status.free_gpus} />
      <Fact name="Rate">{status.rate > 0 ? formatRate(status.rate) : "–"}</Fact>
      <Fact name="Left, at this rate">
        {status.rate > 0 && left > 0 ? `about ${formatDuration(left / status.rate)}` : "–"}
      </Fact>
    </>
  );
}

function elapsedSeconds(status: RunStatus, now: number): number {
  const end = status.ended_at === null ? now : Date.parse(status.ended_at);
  return (end - Date.parse(status.started_at ?? "")) / 1000;
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

function Instant({ name, at }: { name: string; at: string | null }) {
  return at === null ? null : (
    <Fact name={name}>
      <time dateTime={at} title={at}>
        {formatInstant(at)}
      </time>
    </Fact>
  );
}
