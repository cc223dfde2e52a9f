import { useCallback } from "react";
import { useSearchParams } from "react-router";

import { useTimeline, type Axis } from "../api/useTimeline";
import { ErrorNotice } from "../components/ErrorNotice";
import { FreshnessLine } from "../components/FreshnessLine";
import { TimelineBar, TimelineLegend } from "../components/timeline/TimelineBar";
import { TimelineDrawing } from "../components/timeline/TimelineDrawing";
import { TimelineTable } from "../components/timeline/TimelineTable";
import { useTimeWindow } from "../components/timeline/useTimeWindow";
import type { Timeline } from "../components/timeline/laneLayout";
import { choreAddress, choresAddress } from "../lib/choreAddress";
import { formatCount } from "../lib/format";
import { useRun } from "../shell/run";
import "../style/drawing.css";
import "./TimelinePage.css";

const LANES = 25;

/** What ran where and when. */
export function TimelinePage() {
  const { id } = useRun();
  const [parameters, setParameters] = useSearchParams();
  const { asked, seen, show } = useTimeWindow();
  const by: Axis = parameters.get("by") === "group" ? "group" : "host";
  const offset = Math.max(0, Number.parseInt(parameters.get("lane") ?? "0", 10) || 0);
  const { data: timeline, error } = useTimeline(id, { by, offset, lanes: LANES, window: asked });
  const choreUrl = useCallback((chore: string) => choreAddress(id, chore), [id]);
  const change = (changes: Readonly<Record<string, string | null>>) => {
    setParameters((before) => {
      const after = new URLSearchParams(before);
      for (const [name, value] of Object.entries(changes)) {
        if (value === null) {
          after.delete(name);
        } else {
          after.set(name, value);
        }
      }
      return after;
    });
  };
  const window = seen ?? timeline?.run;
  return (
    <section aria-labelledby="timeline-title">
      <h2 id="timeline-title">Timeline</h2>
      {error !== null && <ErrorNotice error={error} hasData={timeline !== undefined} />}
      {timeline === undefined && error === null && <p className="loading">Reading what ran…</p>}
      {timeline !== undefined && <FreshnessLine freshness={timeline.freshness} />}
      {timeline !== undefined && window !== undefined && timeline.num_lanes === 0 && (
        <p className="loading">Nothing has run yet.</p>
      )}
      {timeline !== undefined && window !== undefined && timeline.num_lanes > 0 && (
        <>
          <TimelineBar
            timeline={timeline}
            by={by}
            onBy={(axis) => {
              change({ by: axis === "host" ? null : axis, lane: null });
            }}
            window={window}
            onWindow={show}
          />
          <TimelineDrawing
            timeline={timeline}
            window={window}
            onWindow={show}
            choreUrl={choreUrl}
            laneUrl={(name) => choresAddress(id, { [timeline.by]: name })}
          />
          <LanePages
            timeline={timeline}
            onOffset={(lane) => {
              change({ lane: lane === 0 ? null : String(lane) });
            }}
          />
          <TimelineLegend timeline={timeline} />
          <p className="of drawing-hint">
            Drag to move, Ctrl and wheel to zoom, Shift and drag to zoom to a stretch; a click opens the chore.
          </p>
          <TimelineTable timeline={timeline} choreUrl={choreUrl} />
        </>
      )}
    </section>
  );
}

function LanePages({ timeline, onOffset }: { timeline: Timeline; onOffset: (lane: number) => void }) {
  const { lane_offset: first, lanes, num_lanes: total, by } = timeline;
  if (first === 0 && lanes.length >= total) {
    return null;
  }
  return (
    <p className="more">
      {lanes.length === 0
        ? "No lanes here"
        : `${by === "host" ? "Hosts" : "Groups"} ${formatCount(first + 1)}–${formatCount(first + lanes.length)}`}{" "}
      of {formatCount(total)}.{" "}
      <button
        type="button"
        disabled={first === 0}
        onClick={() => {
          onOffset(Math.max(0, Math.min(first, total) - LANES));
        }}
      >
        Previous
      </button>{" "}
      <button
        type="button"
        disabled={first + lanes.length >= total}
        onClick={() => {
          onOffset(first + LANES);
        }}
      >
        Next
      </button>
    </p>
  );
}
