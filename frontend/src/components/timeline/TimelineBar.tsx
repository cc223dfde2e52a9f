/** What stands above a timeline: what lanes are, the window, and its legend. */
import { formatCount, formatDuration, formatInstantOf } from "../../lib/format";
import { ChoreStateMark } from "../ChoreStateBadge";
import type { Axis } from "../../api/useTimeline";
import { formatMean } from "./TimelineTip";
import { peakOf, type Timeline } from "./laneLayout";
import { isWhole, moveBy, spanOf, zoomAround, type TimeWindow } from "./timeWindow";

const AXES: readonly { by: Axis; label: string }[] = [
  { by: "host", label: "By host" },
  { by: "group", label: "By group" },
];
const ZOOM_FACTOR = 2;
const MOVE_SHARE = 0.5;

interface TimelineBarProps {
  timeline: Timeline;
  by: Axis;
  onBy: (by: Axis) => void;
  window: TimeWindow;
  onWindow: (window: TimeWindow | null) => void;
}

export function TimelineBar({ timeline, by, onBy, window, onWindow }: TimelineBarProps) {
  const bounds = timeline.run;
  const isAll = isWhole(window, bounds);
  const middle = (window.start + window.end) / 2;
  const show = (next: TimeWindow) => {
    onWindow(isWhole(next, bounds) ? null : next);
  };
  const zoom = (factor: number) => () => {
    show(zoomAround(window, factor, middle, bounds));
  };
  const move = (share: number) => () => {
    show(moveBy(window, share * spanOf(window), bounds));
  };
  return (
    <div className="drawing-bar">
      <fieldset className="choice">
        <legend className="unseen">Lanes</legend>
        {AXES.map((axis) => (
          <label key={axis.by}>
            <input
              type="radio"
              name="by"
              checked={axis.by === by}
              onChange={() => {
                onBy(axis.by);
              }}
            />
            {axis.label}
          </label>
        ))}
      </fieldset>
      <div className="drawing-tools">
        <button type="button" aria-label="Earlier" title="Earlier" disabled={isAll} onClick={move(-MOVE_SHARE)}>
          ←
        </button>
        <button type="button" aria-label="Later" title="Later" disabled={isAll} onClick={move(MOVE_SHARE)}>
          →
        </button>
        <button type="button" aria-label="Zoom in" title="Zoom in (+)" onClick={zoom(ZOOM_FACTOR)}>
          +
        </button>
        <button type="button" aria-label="Zoom out" title="Zoom out (−)" disabled={isAll} onClick={zoom(1 / ZOOM_FACTOR)}>
          −
        </button>
        <button
          type="button"
          title="The whole run (0)"
          disabled={isAll}
          onClick={() => {
            onWindow(null);
          }}
        >
          Whole run
        </button>
      </div>
      <p className="of">
        {formatInstantOf(window.start)}, {formatDuration(spanOf(window))}
      </p>
    </div>
  );
}

/** What the drawing means, in words. */
export function TimelineLegend({ timeline }: { timeline: Timeline }) {
  if (timeline.mode === "bars") {
    return (
      <p className="drawing-legend">
        Each bar is an attempt:{" "}
        {(["completed", "failed", "running", "cancelled"] as const).map((state) => (
          <span key={state} className={`key key-${state}`}>
            <ChoreStateMark state={state} />
          </span>
        ))}
      </p>
    );
  }
  return (
    <p className="drawing-legend">
      About {formatCount(timeline.num_bars)} attempts, too many for a bar each: the height is how many ran, in the mean
      of {formatDuration(timeline.bin_seconds ?? 0)}; a full lane is {formatMean(peakOf(timeline))}.
      <span className="key key-failed">some failed</span>
      Zoom in to see each.
    </p>
  );
}
