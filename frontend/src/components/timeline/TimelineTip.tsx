import { ChoreStateMark } from "../ChoreStateBadge";
import { formatCount, formatDuration, formatInstantOf, formatReason, formatSeconds } from "../../lib/format";
import type { Point } from "../../lib/gestures";
import { endOf, type Found, type Timeline } from "./laneLayout";

interface TimelineTipProps {
  found: Found;
  timeline: Timeline;
  at: Point;
  /** Of the canvas. */
  width: number;
}

/** What stands under the pointer. */
export function TimelineTip({ found, timeline, at, width }: TimelineTipProps) {
  const side = at.x > width / 2 ? { right: width - at.x + 14 } : { left: at.x + 14 };
  return (
    <div className="drawing-tip" style={{ ...side, top: at.y + 14 }}>
      {found.kind === "bar" ? <BarText found={found} timeline={timeline} /> : <BinText found={found} timeline={timeline} />}
    </div>
  );
}

function BarText({ found: { bar }, timeline }: { found: Extract<Found, { kind: "bar" }>; timeline: Timeline }) {
  return (
    <>
      <p className="name">{bar.id}</p>
      <p>
        <ChoreStateMark state={bar.state} /> {bar.reason !== null && formatReason(bar.reason)}
      </p>
      <p>
        {formatInstantOf(bar.started_at)}, {bar.ended_at === null ? "for " : ""}
        {formatSeconds(endOf(bar, timeline) - bar.started_at)}
        {bar.ended_at === null ? " so far" : ""}
      </p>
      <p className="of">
        attempt {formatCount(bar.attempt)}
        {bar.host !== "" && ` on ${bar.host}`}
      </p>
    </>
  );
}

function BinText({ found: { lane, bin }, timeline }: { found: Extract<Found, { kind: "bin" }>; timeline: Timeline }) {
  const failed = lane.failed[bin] ?? 0;
  return (
    <>
      <p className="name">{lane.name === "" ? "host not known" : lane.name}</p>
      <p>
        {formatMean(lane.running[bin] ?? 0)} running
        {failed > 0 && <strong className="is-bad">, {formatCount(failed)} failed</strong>}
      </p>
      <p className="of">
        in {formatDuration(timeline.bin_seconds ?? 0)} from {formatInstantOf(timeline.at[bin] ?? 0)}
      </p>
    </>
  );
}

/** A mean with one digit where that says more. */
export function formatMean(value: number): string {
  return value < 100 ? String(Number(value.toFixed(1))) : formatCount(value);
}
