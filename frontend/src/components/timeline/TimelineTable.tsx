/** What the drawing of a timeline shows, as a table. */
import { Link } from "react-router";

import { formatCount, formatInstantOf, formatQuantity, formatSeconds } from "../../lib/format";
import { ChoreStateMark } from "../ChoreStateBadge";
import { ScrollTable } from "../ScrollTable";
import { TwinTable } from "../TwinTable";
import { endOf, type Bar, type Lane, type Timeline } from "./laneLayout";
import { formatMean } from "./TimelineTip";

/** More rows are told, but not put on the page. */
export const MAX_TABLE_ROWS = 200;

interface TimelineTableProps {
  timeline: Timeline;
  choreUrl: (id: string) => string;
}

export function TimelineTable(props: TimelineTableProps) {
  return (
    <TwinTable>
      {props.timeline.mode === "bars" ? <BarTable {...props} /> : <LaneTable timeline={props.timeline} />}
    </TwinTable>
  );
}

function BarTable({ timeline, choreUrl }: TimelineTableProps) {
  const bars = timeline.lanes.flatMap((lane) => lane.bars.map((bar) => ({ lane, bar })));
  const shown = bars.slice(0, MAX_TABLE_ROWS);
  return (
    <>
      <ScrollTable label="Attempts in the window">
        <thead>
          <tr>
            <th scope="col">{timeline.by === "host" ? "Host" : "Group"}</th>
            <th scope="col">Chore</th>
            <th scope="col" className="number">
              Attempt
            </th>
            <th scope="col">State</th>
            <th scope="col">Started</th>
            <th scope="col" className="number">
              Ran
            </th>
          </tr>
        </thead>
        <tbody>
          {shown.map(({ lane, bar }) => (
            <tr key={`${bar.id} ${bar.attempt}`}>
              <td className="name">{nameOf(lane)}</td>
              <th scope="row" className="name">
                <Link to={choreUrl(bar.id)}>{bar.id}</Link>
              </th>
              <td className="number">{formatCount(bar.attempt)}</td>
              <td>
                <ChoreStateMark state={bar.state} />
              </td>
              <td className="nowrap">{formatInstantOf(bar.started_at)}</td>
              <td className="number">{formatRan(bar, timeline)}</td>
            </tr>
          ))}
        </tbody>
      </ScrollTable>
      {shown.length < bars.length && (
        <p className="more">
          Showing {formatCount(shown.length)} of {formatQuantity(bars.length, "attempt")}. A shorter window has fewer.
        </p>
      )}
    </>
  );
}

function formatRan(bar: Bar, timeline: Timeline): string {
  const ran = formatSeconds(endOf(bar, timeline) - bar.started_at);
  return bar.ended_at === null ? `${ran} so far` : ran;
}

function LaneTable({ timeline }: { timeline: Timeline }) {
  return (
    <ScrollTable label="What ran in the window">
      <thead>
        <tr>
          <th scope="col">{timeline.by === "host" ? "Host" : "Group"}</th>
          <th scope="col" className="number">
            Running, mean
          </th>
          <th scope="col" className="number">
            Most in a bin
          </th>
          <th scope="col">When most ran</th>
          <th scope="col" className="number">
            Failed
          </th>
        </tr>
      </thead>
      <tbody>
        {timeline.lanes.map((lane) => (
          <LaneRow key={lane.name} lane={lane} timeline={timeline} />
        ))}
      </tbody>
    </ScrollTable>
  );
}

function LaneRow({ lane, timeline }: { lane: Lane; timeline: Timeline }) {
  const sum = lane.running.reduce((a, b) => a + b, 0);
  const most = lane.running.reduce((a, b) => Math.max(a, b), 0);
  const failed = lane.failed.reduce((a, b) => a + b, 0);
  const at = timeline.at[lane.running.indexOf(most)];
  return (
    <tr>
      <th scope="row" className="name">
        {nameOf(lane)}
      </th>
      <td className="number">{formatMean(sum / Math.max(1, lane.running.length))}</td>
      <td className="number">{formatMean(most)}</td>
      <td className="nowrap">{most === 0 || at === undefined ? "–" : formatInstantOf(at)}</td>
      <td className={failed > 0 ? "number is-bad" : "number is-zero"}>{formatCount(failed)}</td>
    </tr>
  );
}

function nameOf(lane: Lane): string {
  return lane.name === "" ? "host not known" : lane.name;
}
