import { Link } from "react-router";

import type { Schemas } from "../api/client";
import type { Comparison } from "../api/useComparison";
import { choresAddress } from "../lib/choreAddress";
import { formatCount, formatNumber, formatSeconds } from "../lib/format";
import { ScrollTable } from "./ScrollTable";

type Group = Schemas["GroupComparisonResponse"];
type Side = Schemas["GroupSideResponse"] | null;

/** What is told of a group in each of the runs. */
const QUANTITIES: { name: string; of: (side: NonNullable<Side>) => string }[] = [
  { name: "Chores", of: ({ total }) => formatCount(total) },
  { name: "Failed", of: ({ states }) => formatCount(states.failed ?? 0) },
  { name: "Median duration", of: ({ durations }) => secondsOf(durations.median) },
  { name: "95 % below", of: ({ durations }) => secondsOf(durations.p95) },
  { name: "All together", of: ({ durations }) => secondsOf(durations.total) },
];
/** A median that changed by less is noise. */
const NOTABLE_RATIO = 1.1;

/** Counts and durations by group, in both runs. */
export function ComparedGroups({ data }: { data: Comparison }) {
  return (
    <section className="compared">
      <h2>Groups</h2>
      <ScrollTable label="Groups in both runs">
        <thead>
          <tr>
            <th scope="col" rowSpan={2}>
              Group
            </th>
            {QUANTITIES.map(({ name }) => (
              <th key={name} scope="colgroup" colSpan={2} className="pair">
                {name}
              </th>
            ))}
            <th scope="col" rowSpan={2} className="number pair">
              B takes
            </th>
          </tr>
          <tr>
            {QUANTITIES.flatMap(({ name }) =>
              ["A", "B"].map((side) => (
                <th key={name + side} scope="col" className={side === "A" ? "number pair" : "number"}>
                  {side}
                </th>
              )),
            )}
          </tr>
        </thead>
        <tbody>
          {data.groups.map((group) => (
            <GroupRow key={group.name} group={group} data={data} />
          ))}
        </tbody>
      </ScrollTable>
      {data.groups.length < data.num_groups && (
        <p className="more">
          Showing the first {formatCount(data.groups.length)} of {formatCount(data.num_groups)} groups.
        </p>
      )}
    </section>
  );
}

function GroupRow({ group, data }: { group: Group; data: Comparison }) {
  const home = group.b === null ? data.a : data.b;
  return (
    <tr>
      <th scope="row" className="name">
        <Link to={choresAddress(home.id, { group: group.name })}>{group.name}</Link>
      </th>
      {QUANTITIES.flatMap(({ name, of }) => [
        <td key={`${name}a`} className="number pair">
          {group.a === null ? "–" : of(group.a)}
        </td>,
        <td key={`${name}b`} className="number">
          {group.b === null ? "–" : of(group.b)}
        </td>,
      ])}
      <Ratio ratio={group.ratio} />
    </tr>
  );
}

function Ratio({ ratio }: { ratio: number | null }) {
  if (ratio === null) {
    return <td className="number pair">–</td>;
  }
  const isNotable = ratio > NOTABLE_RATIO || ratio < 1 / NOTABLE_RATIO;
  const tone = isNotable ? (ratio > 1 ? "is-slower" : "is-faster") : "of";
  return (
    <td className={`number pair ${tone}`}>
      {formatNumber(ratio)} ×{isNotable && (ratio > 1 ? ", slower" : ", faster")}
    </td>
  );
}

function secondsOf(seconds: number | null): string {
  return seconds === null ? "–" : formatSeconds(seconds);
}
