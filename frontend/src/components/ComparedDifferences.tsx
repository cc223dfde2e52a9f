import { Link } from "react-router";

import type { Schemas } from "../api/client";
import type { Comparison } from "../api/useComparison";
import { choreAddress } from "../lib/choreAddress";
import { presentChoreState } from "../lib/choreState";
import { formatCount, formatQuantity, formatReason, formatSeconds } from "../lib/format";
import { ScrollTable } from "./ScrollTable";

/** Chores that ended otherwise in the other run. */
export function ComparedDifferences({ data }: { data: Comparison }) {
  const { differences, num_differences: total } = data;
  return (
    <section className="compared">
      <h2>Chores that ended otherwise</h2>
      <p className="lead">{summarise(data)}</p>
      {differences.length > 0 && <DifferenceTable data={data} />}
      {differences.length < total && (
        <p className="more">
          Showing the first {formatCount(differences.length)} of {formatQuantity(total, "chore")}.
        </p>
      )}
    </section>
  );
}

function summarise(data: Comparison): string {
  if (!data.is_complete) {
    return `There was no time to compare all chores; ${formatQuantity(data.num_differences, "difference")} found so far.`;
  }
  const found = [
    data.num_differences === 0
      ? "No chore that both runs have stands elsewhere"
      : `The two differ in ${formatQuantity(data.num_differences, "chore")}`,
  ];
  if (data.num_only_a > 0) {
    found.push(onlyIn("A", data.num_only_a));
  }
  if (data.num_only_b > 0) {
    found.push(onlyIn("B", data.num_only_b));
  }
  return `${found.join("; ")}.`;
}

function onlyIn(run: string, count: number): string {
  return `${formatQuantity(count, "chore")} ${count === 1 ? "is" : "are"} only in ${run}`;
}

function DifferenceTable({ data: { a, b, differences } }: { data: Comparison }) {
  return (
    <ScrollTable label="Chores that ended otherwise">
      <thead>
        <tr>
          <th scope="col">Chore</th>
          <th scope="col">In A</th>
          <th scope="col" className="number">
            Took
          </th>
          <th scope="col">In B</th>
          <th scope="col" className="number">
            Took
          </th>
        </tr>
      </thead>
      <tbody>
        {differences.map((one) => (
          <tr key={one.id}>
            <th scope="row" className="name">
              {one.id}
            </th>
            <Stand to={choreAddress(a.id, one.id)} state={one.state_a} reason={one.reason_a} seconds={one.seconds_a} />
            <Stand to={choreAddress(b.id, one.id)} state={one.state_b} reason={one.reason_b} seconds={one.seconds_b} />
          </tr>
        ))}
      </tbody>
    </ScrollTable>
  );
}

interface StandProps {
  to: string;
  state: Schemas["ChoreState"];
  reason: Schemas["Reason"] | null;
  seconds: number | null;
}

function Stand({ to, state, reason, seconds }: StandProps) {
  const { word } = presentChoreState(state);
  return (
    <>
      <td>
        <Link to={to}>{reason === null ? word : `${word}: ${formatReason(reason)}`}</Link>
      </td>
      <td className="number">{seconds === null ? "–" : formatSeconds(seconds)}</td>
    </>
  );
}
