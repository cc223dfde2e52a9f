/** One chore: why it is where it is, its attempts, its neighbours, its files and what it printed. */
import { Link, useParams, useSearchParams } from "react-router";

import type { Schemas } from "../api/client";
import { useChore, type AttemptChoice } from "../api/useChore";
import { AttemptTable } from "../components/chore/AttemptTable";
import { AttemptError, Call } from "../components/chore/Call";
import { ChoreFacts, ChoreHead } from "../components/chore/ChoreHead";
import { Explanation } from "../components/chore/Explanation";
import { FileTable } from "../components/chore/FileTable";
import { RelativeTable } from "../components/chore/RelativeTable";
import { ErrorNotice } from "../components/ErrorNotice";
import { FreshnessLine } from "../components/FreshnessLine";
import { LogView } from "../components/log/LogView";
import { choresAddress } from "../lib/choreAddress";
import { withCondition } from "../lib/choreFilter";
import { presentChoreState } from "../lib/choreState";
import { useRun } from "../shell/run";
import { useShortcut } from "../shell/shortcuts";
import { useTitle } from "../shell/useTitle";
import "./ChorePage.css";

const TABS = [
  { id: "summary", name: "Summary", keys: "1" },
  { id: "stdout", name: "stdout", keys: "2" },
  { id: "stderr", name: "stderr", keys: "3" },
  { id: "files", name: "Files", keys: "4" },
] as const;
type Tab = (typeof TABS)[number]["id"];

export function ChorePage() {
  const { choreId = "" } = useParams();
  const { id: runId } = useRun();
  const { data, error } = useChore(runId, choreId);
  const word = data === undefined ? "" : `${presentChoreState(data.chore.state).word} · `;
  useTitle(`${word}${choreId} · ${runId}`);
  return (
    <div className="chore-page">
      <p className="trail">
        <Link to={choresAddress(runId, {})}>Chores</Link>
        {" · "}
        <Link to={`/runs/${encodeURIComponent(runId)}/graph?chore=${encodeURIComponent(choreId)}`}>
          Neighbourhood in the graph
        </Link>
      </p>
      {error !== null && <ErrorNotice error={error} hasData={data !== undefined} />}
      {data === undefined && error === null && <p className="loading">Looking for {choreId}…</p>}
      {data !== undefined && (
        // Another chore begins anew.
        <Chore key={choreId} runId={runId} answer={data} />
      )}
    </div>
  );
}

function Chore({ runId, answer }: { runId: string; answer: Schemas["ChoreResponse"] }) {
  const [params, setParams] = useSearchParams();
  const tab = TABS.find(({ id }) => id === params.get("tab"))?.id ?? "summary";
  const attempt = readAttempt(params.get("attempt"));
  const addressWith = (name: string, value: string) =>
    `?${withCondition(params, name, value).toString()}`;
  return (
    <>
      <ChoreHead runId={runId} answer={answer} />
      <FreshnessLine freshness={answer.freshness} />
      <nav className="tabs" aria-label="Parts of the chore">
        {TABS.map(({ id, name, keys }) => (
          <TabLink
            key={id}
            name={name}
            keys={keys}
            to={addressWith("tab", id === "summary" ? "" : id)}
            isCurrent={id === tab}
          />
        ))}
        {answer.attempts.length > 1 && (
          <AttemptChooser
            attempts={answer.attempts}
            attempt={attempt}
            onChoose={(value) => {
              setParams((known) => withCondition(known, "attempt", value));
            }}
          />
        )}
      </nav>
      <TabContent
        runId={runId}
        answer={answer}
        tab={tab}
        attempt={attempt}
        addressOf={(number) => addressWith("attempt", String(number))}
      />
    </>
  );
}

interface TabLinkProps {
  name: string;
  keys: string;
  to: string;
  isCurrent: boolean;
}

function TabLink({ name, keys, to, isCurrent }: TabLinkProps) {
  const [, setParams] = useSearchParams();
  useShortcut(keys, `Show ${name}`, () => {
    setParams(to);
  });
  return (
    <Link to={to} aria-current={isCurrent ? "page" : undefined}>
      {name}
    </Link>
  );
}

interface AttemptChooserProps {
  attempts: Schemas["ChoreResponse"]["attempts"];
  attempt: AttemptChoice;
  /** Empty: the latest. */
  onChoose: (value: string) => void;
}

function AttemptChooser({ attempts, attempt, onChoose }: AttemptChooserProps) {
  return (
    <select
      aria-label="Attempt"
      value={attempt ?? ""}
      onChange={(event) => {
        onChoose(event.target.value);
      }}
    >
      <option value="">latest attempt</option>
      {attempts.map(({ attempt: number }) => (
        <option key={number} value={number}>
          attempt {number}
        </option>
      ))}
    </select>
  );
}

interface TabContentProps {
  runId: string;
  answer: Schemas["ChoreResponse"];
  tab: Tab;
  attempt: AttemptChoice;
  addressOf: (attempt: number) => string;
}

function TabContent({ runId, answer, tab, attempt, addressOf }: TabContentProps) {
  const { chore, attempts } = answer;
  const looked = attempts.find((one) => one.attempt === (attempt ?? chore.attempt));
  const isPooled = looked?.is_pooled === true;
  const shared = { runId, choreId: chore.id, attempt };
  if (tab !== "summary" && attempts.length === 0) {
    return <p className="loading">It was not started, so it left nothing.</p>;
  }
  if (tab === "files") {
    return <FileTable {...shared} isPooled={isPooled} />;
  }
  if (tab !== "summary") {
    const isLatest = attempt === null || attempt === chore.attempt;
    const isOver = !isLatest || presentChoreState(chore.state).isTerminal;
    return (
      <LogView
        key={`${tab}:${String(attempt)}`}
        {...shared}
        stream={tab}
        isOver={isOver}
        isPooled={isPooled}
      />
    );
  }
  return (
    <>
      <ChoreFacts runId={runId} answer={answer} />
      <Explanation runId={runId} choreId={chore.id} />
      {attempt !== null && <AttemptError {...shared} />}
      <AttemptTable chore={chore} attempts={attempts} addressOf={addressOf} />
      <Call {...shared} answer={answer} hasRecord={attempts.length > 0 && !isPooled} />
      <div className="relatives">
        <RelativeTable runId={runId} choreId={chore.id} direction="upstream" />
        <RelativeTable runId={runId} choreId={chore.id} direction="downstream" />
      </div>
    </>
  );
}

function readAttempt(text: string | null): AttemptChoice {
  const attempt = Number(text);
  return Number.isInteger(attempt) && attempt > 0 ? attempt : null;
}
