/** The attempts of a chore, when each ran, and which one the page looks at. */
import { Link } from "react-router";

import type { ChoreRow, Schemas } from "../../api/client";
import { serverNow } from "../../api/serverClock";
import { formatInstantOf, formatReason, formatSeconds } from "../../lib/format";
import { presentChoreState } from "../../lib/choreState";
import { ScrollTable } from "../ScrollTable";

type Attempt = Schemas["AttemptResponse"];

interface AttemptTableProps {
  chore: ChoreRow;
  attempts: readonly Attempt[];
  /** Address of the page that looks at an attempt. */
  addressOf: (attempt: number) => string;
}

export function AttemptTable({ chore, attempts, addressOf }: AttemptTableProps) {
  if (attempts.length === 0) {
    return null;
  }
  const now = serverNow() / 1000;
  const from = Math.min(...attempts.map((attempt) => beginningOf(attempt) ?? now));
  const to = Math.max(from + 0.001, ...attempts.map((attempt) => attempt.ended_at ?? now));
  return (
    <section aria-labelledby="attempts-title">
      <h2 id="attempts-title">{attempts.length === 1 ? "Attempt" : "Attempts"}</h2>
      <ScrollTable label="All attempts">
        <thead>
          <tr>
            <th scope="col">attempt</th>
            <th scope="col">how it ended</th>
            <th scope="col" className="number">
              exit code
            </th>
            <th scope="col">host</th>
            <th scope="col">job</th>
            <th scope="col">started</th>
            <th scope="col" className="number">
              waited
            </th>
            <th scope="col" className="number">
              duration
            </th>
            <th scope="col" className="when">
              when
            </th>
            <th scope="col">detail</th>
          </tr>
        </thead>
        <tbody>
          {attempts.map((attempt) => (
            <tr key={attempt.attempt}>
              <th scope="row">
                <Link to={addressOf(attempt.attempt)}>{attempt.attempt}</Link>
              </th>
              <td className={attempt.reason === null ? "nowrap" : "is-bad nowrap"}>
                {wordFor(attempt, chore)}
              </td>
              <td className="number">{attempt.exit_code ?? "–"}</td>
              <td className="nowrap">{attempt.host}</td>
              <td className="name">{attempt.jobid ?? (attempt.is_pooled ? "warm worker" : "")}</td>
              <td className="nowrap">
                {attempt.started_at === null ? "–" : formatInstantOf(attempt.started_at)}
              </td>
              <td className="number">{waited(attempt)}</td>
              <td className="number">{attempt.seconds === null ? "–" : formatSeconds(attempt.seconds)}</td>
              <td className="when">
                <Bar attempt={attempt} from={from} to={to} now={now} />
              </td>
              <td className="detail">{attempt.detail}</td>
            </tr>
          ))}
        </tbody>
      </ScrollTable>
    </section>
  );
}

function wordFor(attempt: Attempt, chore: ChoreRow): string {
  if (attempt.reason !== null) {
    return formatReason(attempt.reason);
  }
  return attempt.attempt === chore.attempt ? presentChoreState(chore.state).word : "ended";
}

function beginningOf({ submitted_at, started_at }: Attempt): number | null {
  return submitted_at ?? started_at;
}

function waited({ submitted_at, started_at }: Attempt): string {
  return submitted_at === null || started_at === null
    ? "–"
    : formatSeconds(Math.max(0, Math.round(100 * (started_at - submitted_at)) / 100));
}

interface BarProps {
  attempt: Attempt;
  from: number;
  to: number;
  now: number;
}

/** The attempt on the time of all of them; the numbers are beside it. */
function Bar({ attempt, from, to, now }: BarProps) {
  const start = attempt.started_at ?? beginningOf(attempt);
  if (start === null) {
    return null;
  }
  const end = attempt.ended_at ?? now;
  const share = (at: number) => (100 * (at - from)) / (to - from);
  const width = Math.max(1, share(end) - share(start));
  return (
    <svg className="attempt-bar" aria-hidden="true" focusable="false">
      <rect className="track" width="100%" height="100%" rx="2" />
      <rect
        className={fillOf(attempt)}
        x={`${Math.min(99, share(start))}%`}
        width={`${width}%`}
        height="100%"
        rx="2"
      />
    </svg>
  );
}

function fillOf({ reason, ended_at }: Attempt): string {
  if (ended_at === null) {
    return "fill-running";
  }
  return reason === null ? "fill-completed" : reason === "cancelled" ? "fill-cancelled" : "fill-failed";
}
