/** What all pages of one run share: its name and state, the way between them, the stream. */
import { Outlet, NavLink, useNavigate, useParams } from "react-router";

import { type StreamState, useRunStream } from "../api/useRunStream";
import { useRunQuery } from "../api/useRun";
import { type Run } from "../api/client";
import { ErrorNotice } from "../components/ErrorNotice";
import { HealthNotice } from "../components/HealthNotice";
import { StateBadge } from "../components/StateBadge";
import { formatPercent } from "../lib/format";
import { countEnded } from "../lib/counts";
import { isTerminal, presentRun } from "../lib/runState";
import { RunActions } from "./RunActions";
import { RunContext } from "./run";
import { useShortcut } from "./shortcuts";
import { useTitle } from "./useTitle";

/** How often a run is asked for while no stream tells: in case it was cut, or somebody resumes. */
const LOOK_MILLISECONDS: Record<StreamState, number | false> = {
  opening: 5_000,
  open: false,
  closed: 5_000,
  ended: 30_000,
};

const PAGES = [
  { path: "", name: "Overview", keys: "g o" },
  { path: "chores", name: "Chores", keys: "g c" },
  { path: "failures", name: "Failures", keys: "g f" },
  { path: "graph", name: "Graph", keys: "g g" },
  { path: "timeline", name: "Timeline", keys: "g t" },
  { path: "utilisation", name: "Utilisation", keys: "g u" },
  { path: "report", name: "Report", keys: "g p" },
] as const;

export function RunLayout() {
  const { runId = "" } = useParams();
  const stream = useRunStream(runId);
  const { data: run, error } = useRunQuery(runId, LOOK_MILLISECONDS[stream]);
  return (
    <>
      <header className="run-head">
        <h1>{runId}</h1>
        <span role="status">{run !== undefined && <StateBadge run={run} />}</span>
        {run !== undefined && <LiveSign run={run} stream={stream} />}
        {run !== undefined && <RunActions run={run} />}
        {run?.status != null && run.status.detail !== "" && (
          <p className="detail">{run.status.detail}</p>
        )}
      </header>
      <RunNav runId={runId} numFailed={run?.status?.num_root_failures ?? 0} />
      {error !== null && <ErrorNotice error={error} hasData={run !== undefined} />}
      {run !== undefined && (
        <RunContext value={run}>
          <RunTitle run={run} />
          <HealthNotice run={run} />
          <Outlet />
        </RunContext>
      )}
      {run === undefined && error === null && <p className="loading">Reading the run…</p>}
    </>
  );
}

function RunNav({ runId, numFailed }: { runId: string; numFailed: number }) {
  const base = `/runs/${encodeURIComponent(runId)}`;
  return (
    <nav className="run-nav" aria-label="Pages of the run">
      {PAGES.map((page) => (
        <RunLink key={page.path} to={page.path === "" ? base : `${base}/${page.path}`} {...page}>
          {page.path === "failures" && numFailed > 0 && <span className="count">{numFailed}</span>}
        </RunLink>
      ))}
    </nav>
  );
}

interface RunLinkProps {
  to: string;
  path: string;
  name: string;
  keys: string;
  children: React.ReactNode;
}

function RunLink({ to, path, name, keys, children }: RunLinkProps) {
  const navigate = useNavigate();
  useShortcut(keys, `Go to ${name}`, () => void navigate(to));
  return (
    <NavLink to={to} end={path === ""}>
      {name}
      {children}
    </NavLink>
  );
}

function RunTitle({ run }: { run: Run }) {
  const { status } = run;
  useTitle(
    status == null
      ? run.id
      : `${formatPercent(countEnded(status.counts), status.counts.total)} ${presentRun(run).word.toLowerCase()} · ${run.id}`,
  );
  return null;
}

/** Whether what is on the screen is renewed. */
function LiveSign({ run, stream }: { run: Run; stream: StreamState }) {
  if (run.status == null || isTerminal(run.status.state)) {
    return null;
  }
  const isLive = stream === "open" && run.health === "alive";
  return (
    <span className={isLive ? "live-sign is-live" : "live-sign"}>
      {isLive ? "live" : stream === "closed" ? "reconnecting…" : "not live"}
    </span>
  );
}
