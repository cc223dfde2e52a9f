import { Link } from "react-router";

import type { Schemas } from "../api/client";
import { useWaiting } from "../api/useWaiting";
import { choresAddress } from "../lib/choreAddress";
import { formatCount, formatQuantity } from "../lib/format";
import { ErrorNotice } from "./ErrorNotice";
import { ScrollTable } from "./ScrollTable";

type WaitingGroup = Schemas["WaitingGroupResponse"];

const OBSTACLES: Record<Schemas["Obstacle"], string> = {
  paused: "The run is paused: nothing starts until it is unpaused.",
  draining: "The run ends what runs and starts nothing more.",
  degraded: "The files of the run cannot be written, so nothing starts.",
  ended: "The run is over. Resumed, it goes on with these.",
  no_driver: "No driver is at work, so nothing starts.",
};

/** Share of a run from which on its index tells what waits; before, all that is not read does. */
const MIN_SHARE = 0.99;

/** For what pending chores wait; nothing where there are none. */
export function WaitingTable({ runId }: { runId: string }) {
  const { data, error } = useWaiting(runId);
  if (data === undefined) {
    return error === null ? null : <ErrorNotice error={error} />;
  }
  return data.num_blocked === 0 || data.freshness.share < MIN_SHARE ? null : (
    <section>
      <h2>What pending chores wait for</h2>
      {data.obstacle !== null && <p className="lead">{OBSTACLES[data.obstacle]}</p>}
      <ScrollTable label="What pending chores wait for">
        <thead>
          <tr>
            <th scope="col">Group</th>
            <th scope="col" className="number">
              Pending
            </th>
            <th scope="col">For</th>
          </tr>
        </thead>
        <tbody>
          {data.groups.map((group) => (
            <tr key={group.name}>
              <th scope="row" className="name">
                <Link to={choresAddress(runId, { group: group.name, state: "blocked" })}>
                  {group.name}
                </Link>
              </th>
              <td className="number">{formatCount(group.num_blocked)}</td>
              <td className="detail">{describeWaiting(group)}</td>
            </tr>
          ))}
        </tbody>
      </ScrollTable>
      {data.num_left_out > 0 && (
        <p className="more">{formatQuantity(data.num_left_out, "more group")} with pending chores.</p>
      )}
    </section>
  );
}

function describeWaiting({ upstream, num_upstream_left_out, waits_for_room }: WaitingGroup): string {
  const found = upstream.map(
    ({ name, num_left, num_running }) =>
      `${name} (${formatCount(num_left)} left${num_running > 0 ? `, ${formatCount(num_running)} running` : ""})`,
  );
  if (num_upstream_left_out > 0) {
    found.push(formatQuantity(num_upstream_left_out, "more group"));
  }
  if (waits_for_room) {
    found.push("free cores, GPUs or time");
  }
  return found.join("; ");
}
