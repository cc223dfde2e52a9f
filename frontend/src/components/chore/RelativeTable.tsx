/** The chores next to one: what it depends on, or what depends on it. */
import { Link } from "react-router";

import type { ChoreRow, Schemas } from "../../api/client";
import { RELATIVES_ROWS, useRelatives, type Direction } from "../../api/useChore";
import { choreAddress, choresAddress } from "../../lib/choreAddress";
import { presentChoreState, CHORE_STATES } from "../../lib/choreState";
import { formatCount, formatQuantity, formatReason, formatSeconds } from "../../lib/format";
import { ChoreStateMark } from "../ChoreStateBadge";
import { ErrorNotice } from "../ErrorNotice";
import { ScrollTable } from "../ScrollTable";

interface RelativeTableProps {
  runId: string;
  choreId: string;
  direction: Direction;
}

const TITLES: Record<Direction, { section: string; table: string }> = {
  upstream: { section: "Depends on", table: "What it depends on" },
  downstream: { section: "Needed by", table: "What needs it" },
};

export function RelativeTable({ runId, choreId, direction }: RelativeTableProps) {
  const { data, error, fetchNextPage, hasNextPage, isFetchingNextPage } = useRelatives(
    runId,
    choreId,
    direction,
  );
  const id = `${direction}-title`;
  const first = data?.pages[0];
  const chores = data?.pages.flatMap((page) => page.chores) ?? [];
  const groups = first?.groups ?? [];
  const total = first?.total ?? 0;
  return (
    <section aria-labelledby={id}>
      <h2 id={id}>
        {TITLES[direction].section} {first !== undefined && <span className="of">{countOf(total, first.groups.length)}</span>}
      </h2>
      {error !== null && <ErrorNotice error={error} hasData={data !== undefined} />}
      {chores.length + groups.length > 0 && (
        <ScrollTable label={TITLES[direction].table}>
          <thead>
            <tr>
              <th scope="col">chore</th>
              <th scope="col">state</th>
              <th scope="col">reason</th>
              <th scope="col" className="number">
                duration
              </th>
            </tr>
          </thead>
          <tbody>
            {groups.map((group) => (
              <GroupRow key={group.name} runId={runId} group={group} />
            ))}
            {chores.map((chore) => (
              <RelativeRow key={chore.id} runId={runId} chore={chore} />
            ))}
          </tbody>
        </ScrollTable>
      )}
      {first !== undefined && first.num_groups_left_out > 0 && (
        <p className="more">And {formatQuantity(first.num_groups_left_out, "group")} more.</p>
      )}
      {hasNextPage && (
        <p className="more">
          Showing {formatCount(chores.length)} of {formatCount(total)}.{" "}
          <button type="button" disabled={isFetchingNextPage} onClick={() => void fetchNextPage()}>
            Show {RELATIVES_ROWS} more
          </button>
        </p>
      )}
    </section>
  );
}

function countOf(total: number, numGroups: number): string {
  if (total + numGroups === 0) {
    return "nothing";
  }
  return [
    total > 0 && formatQuantity(total, "chore"),
    numGroups > 0 && `all of ${formatQuantity(numGroups, "group")}`,
  ]
    .filter((part) => part !== false)
    .join(", ");
}

function GroupRow({ runId, group }: { runId: string; group: Schemas["GroupResponse"] }) {
  return (
    <tr>
      <th scope="row">
        <Link to={choresAddress(runId, { group: group.name })}>all of {group.name}</Link>
      </th>
      <td colSpan={3} className="of">
        {CHORE_STATES.filter((state) => group.states[state] !== undefined)
          .map((state) => `${formatCount(group.states[state] ?? 0)} ${presentChoreState(state).word}`)
          .join(", ")}
      </td>
    </tr>
  );
}

function RelativeRow({ runId, chore }: { runId: string; chore: ChoreRow }) {
  return (
    <tr>
      <th scope="row" className="name">
        <Link to={choreAddress(runId, chore.id)}>{chore.id}</Link>
      </th>
      <td>
        <ChoreStateMark state={chore.state} />
      </td>
      <td className="nowrap">{chore.reason === null ? "" : formatReason(chore.reason)}</td>
      <td className="number">{chore.seconds === null ? "–" : formatSeconds(chore.seconds)}</td>
    </tr>
  );
}
