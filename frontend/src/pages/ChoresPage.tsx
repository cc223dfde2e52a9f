/** All chores of a run: filter, order, and a table of any length. */
import { useCallback } from "react";
import { useSearchParams } from "react-router";

import { exportUrl, MAX_ROWS, useChoreTable } from "../api/useChores";
import { useGroups } from "../api/useGroups";
import { useUtilisation } from "../api/useUtilisation";
import { ActionButton } from "../components/ActionButton";
import { ChoreFilterBar } from "../components/ChoreFilterBar";
import { ChoreTable } from "../components/ChoreTable";
import { ErrorNotice } from "../components/ErrorNotice";
import { FreshnessLine } from "../components/FreshnessLine";
import { selectionOf } from "../lib/bulk";
import {
  isFiltered,
  parseQuestion,
  withCondition,
  withoutConditions,
  type ChoreQuestion,
  type ChoreSort,
  type Condition,
} from "../lib/choreFilter";
import { presentChoreState } from "../lib/choreState";
import { formatCount, formatQuantity } from "../lib/format";
import { useRun } from "../shell/run";
import "./ChoresPage.css";

export function ChoresPage() {
  const { id: runId } = useRun();
  const address = useQuestion();
  const { question, first, numReachable, isStale, error } = useChoreTable(runId, address.question);
  const groups = useGroups(runId).data?.groups ?? [];
  const hosts = useUtilisation(runId).data?.hosts.map(({ name }) => name) ?? [];
  const total = first?.total ?? 0;
  return (
    <>
      <h2 className="unseen">Chores</h2>
      <ChoreFilterBar
        question={address.question}
        groups={groups}
        hosts={hosts}
        onChange={address.change}
        onClear={address.clear}
      />
      {error !== null && <ErrorNotice error={error} hasData={first !== undefined} />}
      <FreshnessLine freshness={first?.freshness} />
      {first === undefined && error === null && <p className="loading">Looking for chores…</p>}
      {first !== undefined && (
        <>
          <div className="table-head">
            <TotalLine question={question} total={total} isStale={isStale} />
            <BulkActions runId={runId} question={question} chores={first.chores} total={total} />
            <ExportLinks runId={runId} question={address.question} />
          </div>
          {total === 0 ? (
            <NoChores isNarrowed={isFiltered(question)} onClear={address.clear} />
          ) : (
            <ChoreTable
              // Another question begins at the top.
              key={JSON.stringify(question)}
              runId={runId}
              question={question}
              numRows={numReachable}
              total={total}
              isStale={isStale}
              onSort={address.sort}
            />
          )}
          {total > MAX_ROWS && (
            <p className="more">
              The table goes down to chore {formatCount(MAX_ROWS)}. Turn the order round for those at
              the other end, or narrow them down.
            </p>
          )}
        </>
      )}
    </>
  );
}

/** The question in the address of the page, and the ways to change it. */
function useQuestion() {
  const [params, setParams] = useSearchParams();
  const change = useCallback(
    (condition: Condition, value: string) => {
      setParams((known) => withCondition(known, condition, value), { replace: condition === "text" });
    },
    [setParams],
  );
  const clear = useCallback(() => {
    setParams(withoutConditions);
  }, [setParams]);
  const sort = useCallback(
    (by: ChoreSort, isDescending: boolean) => {
      setParams((known) =>
        withCondition(
          withCondition(known, "sort", by === "order" ? "" : by),
          "descending",
          isDescending ? "true" : "",
        ),
      );
    },
    [setParams],
  );
  return { question: parseQuestion(params), change, clear, sort };
}

interface TotalLineProps {
  /** What the total belongs to. */
  question: ChoreQuestion;
  total: number;
  /** Whether something else is asked for meanwhile. */
  isStale: boolean;
}

/** How many there are, always: of the run, and of what is asked for. */
function TotalLine({ question, total, isStale }: TotalLineProps) {
  const counts = useRun().status?.counts;
  const all = Math.max(total, counts?.total ?? 0);
  const failed = counts?.failed ?? 0;
  return (
    <p className="total" role="status">
      {isFiltered(question) ? (
        <>
          <strong>{formatQuantity(total, "chore")}</strong> of {formatCount(all)}
        </>
      ) : (
        <>
          <strong>{formatQuantity(all, "chore")}</strong>, {formatCount(failed)} failed
        </>
      )}
      {isStale && " – looking…"}
    </p>
  );
}

function ExportLinks({ runId, question }: { runId: string; question: ChoreQuestion }) {
  return (
    <p className="exports">
      {(["csv", "json"] as const).map((format) => (
        <a key={format} href={exportUrl(runId, question, format)} download={`${runId}-chores.${format}`}>
          {format.toUpperCase()}
        </a>
      ))}
    </p>
  );
}

function NoChores({ isNarrowed, onClear }: { isNarrowed: boolean; onClear: () => void }) {
  return (
    <div className="empty">
      <p>{isNarrowed ? "No chore matches all of these conditions." : "No chores yet."}</p>
      {isNarrowed && (
        <button type="button" onClick={onClear}>
          Clear filters
        </button>
      )}
    </div>
  );
}

interface BulkActionsProps {
  runId: string;
  question: ChoreQuestion;
  chores: Parameters<typeof selectionOf>[1];
  total: number;
}

/** Cancel or retry what the filter selects. */
function BulkActions({ runId, question, chores, total }: BulkActionsProps) {
  const selection = selectionOf(question, chores, total);
  if (selection === null) {
    return null;
  }
  const { state } = question;
  const isOver = state !== undefined && presentChoreState(state).isTerminal;
  const these = formatQuantity(total, "chore");
  return (
    <div className="bulk">
      {!isOver && (
        <ActionButton
          runId={runId}
          request={{ verb: "cancel", ...selection }}
          question={{
            title: `Cancel ${these}?`,
            text: "Those that run are stopped, those that wait will not start, and what depends on them is skipped. What has ended stays as it is.",
          }}
        >
          {`Cancel these ${formatCount(total)}`}
        </ActionButton>
      )}
      {state !== "completed" && (state === undefined || isOver) && (
        <ActionButton
          runId={runId}
          request={{ verb: "retry", ...selection }}
          question={{
            title: `Retry those of ${these} that have failed?`,
            text: "They run once more, and so does what was skipped because of them.",
          }}
        >
          {`Retry these ${formatCount(total)}`}
        </ActionButton>
      )}
    </div>
  );
}
