import { useState } from "react";
import { Link } from "react-router";

import type { Counts } from "../api/client";
import { choresAddress } from "../lib/choreAddress";
import { countEnded } from "../lib/counts";
import { formatCount, formatPercent } from "../lib/format";
import { ProgressBar } from "./ProgressBar";
import { ScrollTable } from "./ScrollTable";

const MAX_ROWS = 100;
const COLUMNS = ["pending", "running", "completed", "failed", "cancelled", "total"] as const;

interface GroupTableProps {
  runId: string;
  groups: Readonly<Record<string, Counts>>;
}

/** The chores by group: all chores of one name. */
export function GroupTable({ runId, groups }: GroupTableProps) {
  const [isWhole, setIsWhole] = useState(false);
  const all = Object.entries(groups);
  const shown = isWhole ? all : all.slice(0, MAX_ROWS);
  return (
    <section>
      <h2>Groups</h2>
      <ScrollTable label="Chores by group">
        <thead>
          <tr>
            <th scope="col">Group</th>
            <th scope="col" className="wide">
              Progress
            </th>
            {COLUMNS.map((name) => (
              <th key={name} scope="col" className="number">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {shown.map(([group, counts]) => (
            <GroupRow key={group} runId={runId} group={group} counts={counts} />
          ))}
        </tbody>
      </ScrollTable>
      {shown.length < all.length && (
        <p className="more">
          Showing {formatCount(shown.length)} of {formatCount(all.length)} groups.{" "}
          <button
            type="button"
            onClick={() => {
              setIsWhole(true);
            }}
          >
            Show all
          </button>
        </p>
      )}
    </section>
  );
}

function GroupRow({ runId, group, counts }: { runId: string; group: string; counts: Counts }) {
  const ended = countEnded(counts);
  return (
    <tr>
      <th scope="row" className="name">
        <Link to={choresAddress(runId, { group })}>{group}</Link>
      </th>
      <td className="wide">
        <div className="bar-cell">
          <ProgressBar counts={counts} label={group} />
          <span className="percent">{formatPercent(ended, counts.total)}</span>
        </div>
      </td>
      {COLUMNS.map((name) => (
        <td key={name} className={cellClass(name, counts[name])}>
          {formatCount(counts[name])}
        </td>
      ))}
    </tr>
  );
}

function cellClass(name: string, count: number): string {
  if (count === 0) {
    return "number is-zero";
  }
  return name === "failed" ? "number is-bad" : "number";
}
