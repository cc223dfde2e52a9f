/** Who a chore is and how it stands, and what can be asked of it. */
import { useState } from "react";
import { Link } from "react-router";

import type { ChoreRow, Schemas } from "../../api/client";
import { serverNow } from "../../api/serverClock";
import { useSettings } from "../../api/useSettings";
import { choresAddress } from "../../lib/choreAddress";
import { presentChoreState } from "../../lib/choreState";
import { formatInstantOf, formatReason, formatSeconds } from "../../lib/format";
import { describeResources } from "../../lib/resources";
import { useNow } from "../../lib/useNow";
import { ActionButton } from "../ActionButton";
import { ChoreStateBadge } from "../ChoreStateBadge";

const NICE_LIMIT = 1_000_000;

interface ChoreHeadProps {
  runId: string;
  answer: Schemas["ChoreResponse"];
}

export function ChoreHead({ runId, answer }: ChoreHeadProps) {
  const { chore } = answer;
  return (
    <header className="chore-head">
      <h2 className="name">{chore.id}</h2>
      <ChoreStateBadge state={chore.state} />
      {chore.reason !== null && <span className="is-bad">{formatReason(chore.reason)}</span>}
      {chore.attempt > 0 && <span className="of">attempt {chore.attempt}</span>}
      <ChoreActions runId={runId} chore={chore} nice={answer.nice} />
    </header>
  );
}

/** Where and when it ran, and what it asked for. */
export function ChoreFacts({ runId, answer }: ChoreHeadProps) {
  const { chore, nice, resources } = answer;
  const latest = answer.attempts.find(({ attempt }) => attempt === chore.attempt);
  return (
    <dl className="facts">
      <div>
        <dt>Group</dt>
        <dd>
          <Link to={choresAddress(runId, { group: chore.name })}>{chore.name}</Link>
        </dd>
      </div>
      <div>
        <dt>{chore.state === "running" ? "Running for" : "Duration"}</dt>
        <dd>
          <Duration chore={chore} />
        </dd>
      </div>
      <Instant name="Submitted" at={chore.started_at === null ? chore.submitted_at : null} />
      <Instant name="Started" at={chore.started_at} />
      <Instant name="Ended" at={chore.ended_at} />
      {chore.host !== "" && (
        <div>
          <dt>Host</dt>
          <dd>
            <Link to={choresAddress(runId, { host: chore.host })}>{chore.host}</Link>
          </dd>
        </div>
      )}
      {latest !== undefined && (
        <div>
          <dt>{wordForPlace(chore)}</dt>
          <dd>{latest.is_pooled ? "a warm worker" : "a job of its own"}</dd>
        </div>
      )}
      {chore.exit_code !== null && (
        <div>
          <dt>Exit code</dt>
          <dd>{chore.exit_code}</dd>
        </div>
      )}
      <div>
        <dt>Resources</dt>
        <dd>{describeResources(resources)}</dd>
      </div>
      {nice !== 0 && (
        <div>
          <dt>Nice</dt>
          <dd>{nice}</dd>
        </div>
      )}
    </dl>
  );
}

function wordForPlace({ state, started_at }: ChoreRow): string {
  if (state === "running") {
    return "Runs on";
  }
  return started_at === null ? "Given to" : "Ran on";
}

function Duration({ chore }: { chore: ChoreRow }) {
  const startedAt = chore.state === "running" ? chore.started_at : null;
  useNow(startedAt !== null);
  const seconds =
    startedAt === null ? chore.seconds : Math.floor(serverNow() / 1000 - startedAt);
  return seconds === null ? "–" : formatSeconds(Math.max(0, seconds));
}

function Instant({ name, at }: { name: string; at: number | null }) {
  return at === null ? null : (
    <div>
      <dt>{name}</dt>
      <dd>
        <time dateTime={new Date(at * 1000).toISOString()}>{formatInstantOf(at)}</time>
      </dd>
    </div>
  );
}

interface ChoreActionsProps {
  runId: string;
  chore: ChoreRow;
  nice: number;
}

function ChoreActions({ runId, chore, nice }: ChoreActionsProps) {
  const [wanted, setWanted] = useState(String(nice));
  const isAllowed = useSettings()?.allow_actions === true;
  const chores = [chore.id];
  if (!isAllowed || chore.state === "completed") {
    return null;
  }
  if (presentChoreState(chore.state).isTerminal) {
    return (
      <div className="chore-actions">
        <ActionButton runId={runId} request={{ verb: "retry", chores }}>
          Retry
        </ActionButton>
      </div>
    );
  }
  const isNice = wanted.trim() !== "" && Math.abs(Number(wanted)) <= NICE_LIMIT;
  return (
    <div className="chore-actions">
      <ActionButton
        runId={runId}
        request={{ verb: "cancel", chores }}
        question={{
          title: `Cancel ${chore.id}?`,
          text: "It is stopped where it runs, and what depends on it is skipped.",
        }}
      >
        Cancel
      </ActionButton>
      {(chore.state === "blocked" || chore.state === "ready") && (
        <>
          <label>
            Nice{" "}
            <input
              type="number"
              title="Lower runs first"
              value={wanted}
              min={-NICE_LIMIT}
              max={NICE_LIMIT}
              onChange={(event) => {
                setWanted(event.target.value);
              }}
            />
          </label>
          {isNice && (
            <ActionButton
              runId={runId}
              request={{ verb: "prioritise", chores, nice: Math.round(Number(wanted)) }}
            >
              Prioritise
            </ActionButton>
          )}
        </>
      )}
    </div>
  );
}
