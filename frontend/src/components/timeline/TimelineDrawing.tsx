/** The drawing of a timeline: names of lanes beside a canvas, the time above it. */
import { useEffect, useMemo, useRef, useState } from "react";
import { Link, useNavigate } from "react-router";

import { clearCanvas, paletteOf, useSize } from "../../lib/canvas";
import { useGestures, type Point } from "../../lib/gestures";
import { useIsDark } from "../../shell/theme";
import { findAt, heightOf, peakOf, placeLanes, scaleOf, type PlacedLane, type Timeline } from "./laneLayout";
import { paintTimeline } from "./paintTimeline";
import { TimelineTip } from "./TimelineTip";
import { ticksOf, type Tick } from "./timeTicks";
import { isWhole, keepWithin, moveBy, spanOf, zoomAround, type TimeWindow } from "./timeWindow";

/** Pixels between ticks, enough for "12:34:56". */
const TICK_SPACING = 90;
/** How far a click on a bin zooms in. */
const BIN_FACTOR = 8;

interface TimelineDrawingProps {
  timeline: Timeline;
  window: TimeWindow;
  onWindow: (window: TimeWindow | null) => void;
  /** Address of a chore's page. */
  choreUrl: (id: string) => string;
  /** Address of the chores of a lane. */
  laneUrl: (name: string) => string;
}

export function TimelineDrawing({ timeline, window, onWindow, choreUrl, laneUrl }: TimelineDrawingProps) {
  const [area, setArea] = useState<HTMLDivElement | null>(null);
  const [tip, setTip] = useState<Point | null>(null);
  const [marked, setMarked] = useState<readonly [number, number] | null>(null);
  const navigate = useNavigate();
  const { width } = useSize(area);
  const lanes = useMemo(() => placeLanes(timeline), [timeline]);
  const scale = scaleOf(window, Math.max(1, width));
  const ticks = ticksOf(window, width, TICK_SPACING);
  const found = tip === null ? null : findAt(timeline, lanes, scale, tip.x, tip.y);
  const bounds = timeline.run;
  const show = (next: TimeWindow) => {
    onWindow(isWhole(next, bounds) ? null : next);
  };
  useGestures(area, {
    isWheelTaken: false,
    move: (dx) => {
      show(moveBy(window, (-dx / width) * spanOf(window), bounds));
    },
    zoom: (factor, around) => {
      const at = around === null ? (window.start + window.end) / 2 : scale.secondOf(around.x);
      show(zoomAround(window, factor, at, bounds));
    },
    fit: () => {
      onWindow(null);
    },
    point: setTip,
    click: ({ x, y }) => {
      const hit = findAt(timeline, lanes, scale, x, y);
      if (hit?.kind === "bar") {
        void navigate(choreUrl(hit.bar.id));
      } else if (hit?.kind === "bin") {
        show(zoomAround(window, BIN_FACTOR, scale.secondOf(x), bounds));
      }
    },
    mark: (from, to, isDone) => {
      setMarked(isDone ? null : [from.x, to.x]);
      if (isDone) {
        const [left, right] = [Math.min(from.x, to.x), Math.max(from.x, to.x)];
        show(keepWithin({ start: scale.secondOf(left), end: scale.secondOf(right) }, bounds));
      }
    },
  });
  return (
    <div className="timeline">
      <div className="timeline-corner">{timeline.by === "host" ? "Host" : "Group"}</div>
      <TimeAxis ticks={ticks} xOf={scale.xOf} width={width} />
      <LaneNames lanes={lanes} laneUrl={laneUrl} />
      <div
        ref={setArea}
        className={found === null ? "timeline-area" : "timeline-area is-over"}
        role="region"
        tabIndex={0}
        aria-label="Timeline, drawn. Arrow keys move it, plus and minus zoom, 0 shows the whole run. The table below says the same."
      >
        <LaneCanvas {...{ timeline, lanes, scale, ticks, marked, width }} height={heightOf(lanes)} />
        {found !== null && tip !== null && (
          <TimelineTip found={found} timeline={timeline} at={tip} width={width} />
        )}
      </div>
    </div>
  );
}

interface LaneCanvasProps {
  timeline: Timeline;
  lanes: readonly PlacedLane[];
  scale: ReturnType<typeof scaleOf>;
  ticks: readonly Tick[];
  marked: readonly [number, number] | null;
  width: number;
  height: number;
}

function LaneCanvas(props: LaneCanvasProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const isDark = useIsDark();
  const peak = useMemo(() => peakOf(props.timeline), [props.timeline]);
  useEffect(() => {
    if (canvas.current !== null && props.width > 0) {
      const pencil = clearCanvas(canvas.current, props);
      paintTimeline(pencil, { ...props, peak, palette: paletteOf(isDark) });
    }
  });
  return <canvas ref={canvas} aria-hidden="true" style={{ height: props.height }} />;
}

function TimeAxis({ ticks, xOf, width }: { ticks: readonly Tick[]; xOf: (at: number) => number; width: number }) {
  return (
    <div className="timeline-axis" aria-hidden="true">
      {ticks
        .filter(({ at }) => xOf(at) < width - TICK_SPACING / 3)
        .map(({ at, label, isDay }) => (
          <span key={at} className={isDay ? "is-day" : undefined} style={{ left: xOf(at) }}>
            {label}
          </span>
        ))}
    </div>
  );
}

function LaneNames({ lanes, laneUrl }: { lanes: readonly PlacedLane[]; laneUrl: (name: string) => string }) {
  return (
    <ul className="timeline-names" style={{ height: heightOf(lanes) }}>
      {lanes.map(({ lane, top, height }) => (
        <li key={lane.name} style={{ top, height }}>
          {lane.name === "" ? (
            <span className="of">host not known</span>
          ) : (
            <Link to={laneUrl(lane.name)} title={`Chores of ${lane.name}`}>
              {lane.name}
            </Link>
          )}
        </li>
      ))}
    </ul>
  );
}

