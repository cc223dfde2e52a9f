import { useQuery } from "@tanstack/react-query";
import { useDeferredValue, useEffect, useRef, useState } from "react";

import { placeQuery, useWholeGraph, type WholeWindow } from "../../api/useGraph";
import { clearCanvas, paletteOf, useSize } from "../../lib/canvas";
import { presentChoreState } from "../../lib/choreState";
import { formatCount } from "../../lib/format";
import { useGestures, type Point } from "../../lib/gestures";
import { useIsDark } from "../../shell/theme";
import { ErrorNotice } from "../ErrorNotice";
import { paintFrame, paintWhole } from "./paintWhole";
import { describeStates } from "./StatesBar";
import { WholeOverview } from "./WholeOverview";
import type { Place } from "./WholeGraph";
import { countsOfCell } from "./wholeRows";
import {
  centreView,
  findStanding,
  fitView,
  isFitted,
  moveView,
  placesFor,
  zoomView,
  type Extent,
  type Standing,
  type View,
} from "./wholeView";

const MAX_DRAWN = 4_000;
const CELL_FACTOR = 4;
const BUTTON_FACTOR = 2;

interface WholeDrawingProps {
  runId: string;
  overview: WholeWindow;
  extent: Extent;
  chosen: Place | null;
  onChoose: (place: Place | null) => void;
  /** Told what is drawn whenever that changes. */
  onWindow: (window: WholeWindow) => void;
}

export function WholeDrawing({ runId, overview, extent, chosen, onChoose, onWindow }: WholeDrawingProps) {
  const [area, setArea] = useState<HTMLDivElement | null>(null);
  const [moved, setMoved] = useState<View | null>(null);
  const [hovered, setHovered] = useState<Point | null>(null);
  const size = useSize(area);
  const view = moved ?? fitView(extent, size);
  const places = useDeferredValue(placesFor(view, extent, size));
  const { data = overview, error } = useWholeGraph(runId, places, MAX_DRAWN);
  useEffect(() => {
    onWindow(data);
  }, [data, onWindow]);
  const zoom = (factor: number, around: Point | null) => {
    const at = around ?? { x: size.width / 2, y: size.height / 2 };
    setMoved(zoomView(view, factor, at, extent, size));
  };
  const isWhole = isFitted(view, extent, size);
  useGestures(area, {
    isWheelTaken: true,
    move: (dx, dy) => {
      setMoved(moveView(view, dx, dy, extent, size));
    },
    zoom,
    fit: () => {
      setMoved(null);
    },
    point: setHovered,
    click: (at) => {
      const hit = findStanding(data, view, at);
      if (hit?.kind === "cell") {
        zoom(CELL_FACTOR, at);
      } else {
        onChoose(hit === null ? null : placeOf(data, hit));
      }
    },
  });
  const found = hovered === null ? null : findStanding(data, view, hovered);
  return (
    <div className="whole">
      {error !== null && <ErrorNotice error={error} hasData />}
      <div className="drawing-tools whole-tools">
        <button
          type="button"
          aria-label="Zoom in"
          title="Zoom in (+)"
          onClick={() => {
            zoom(BUTTON_FACTOR, null);
          }}
        >
          +
        </button>
        <button
          type="button"
          aria-label="Zoom out"
          title="Zoom out (−)"
          disabled={isWhole}
          onClick={() => {
            zoom(1 / BUTTON_FACTOR, null);
          }}
        >
          −
        </button>
        <button
          type="button"
          title="The whole graph (0)"
          disabled={isWhole}
          onClick={() => {
            setMoved(null);
          }}
        >
          Fit
        </button>
      </div>
      <div
        ref={setArea}
        className={found === null ? "whole-area" : "whole-area is-over"}
        role="region"
        tabIndex={0}
        aria-label="Whole graph, drawn. Arrow keys move it, plus and minus zoom, 0 shows all of it. The table below says the same."
      >
        <WholeCanvas window={data} view={view} chosen={chosen} width={size.width} height={size.height} />
        {found !== null && hovered !== null && (
          <StandingTip runId={runId} window={data} found={found} at={hovered} width={size.width} />
        )}
      </div>
      {!isWhole && (
        <WholeOverview
          overview={overview}
          extent={extent}
          view={view}
          screen={size}
          onCentre={(level, rank) => {
            setMoved(centreView(view, level, rank, extent, size));
          }}
        />
      )}
    </div>
  );
}

interface WholeCanvasProps {
  window: WholeWindow;
  view: View;
  chosen: Place | null;
  width: number;
  height: number;
}

function WholeCanvas({ window, view, chosen, width, height }: WholeCanvasProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const isDark = useIsDark();
  useEffect(() => {
    if (canvas.current !== null && width > 0) {
      const size = { width, height };
      const pencil = clearCanvas(canvas.current, size);
      const palette = paletteOf(isDark);
      paintWhole(pencil, window, view, size, palette);
      if (chosen !== null) {
        paintFrame(pencil, view, { ...chosen, levels: 1, ranks: 1 }, palette);
      }
    }
  });
  return <canvas ref={canvas} aria-hidden="true" />;
}

interface StandingTipProps {
  runId: string;
  window: WholeWindow;
  found: Standing;
  at: Point;
  width: number;
}

/** What stands under the pointer. */
function StandingTip({ runId, window, found, at, width }: StandingTipProps) {
  const side = at.x > width / 2 ? { right: width - at.x + 14 } : { left: at.x + 14 };
  return (
    <div className="drawing-tip" style={{ ...side, top: at.y + 14 }}>
      {found.kind === "chore" ? (
        <PlaceText runId={runId} window={window} index={found.index} />
      ) : (
        <CellText window={window} index={found.index} />
      )}
    </div>
  );
}

function PlaceText({ runId, window, index }: { runId: string; window: WholeWindow; index: number }) {
  const place = placeOf(window, { kind: "chore", index });
  const { data: chore } = useQuery(placeQuery(runId, place.level, place.rank));
  const state = window.states[window.points?.state[index] ?? 0] ?? "blocked";
  return (
    <>
      <p className="name">{chore?.id ?? "…"}</p>
      <p>{presentChoreState(chore?.state ?? state).word}</p>
      <p className="of">level {formatCount(place.level)}</p>
    </>
  );
}

function CellText({ window, index }: { window: WholeWindow; index: number }) {
  const { cells } = window;
  if (cells === null) {
    return null;
  }
  const [level, rank] = [cells.level[index] ?? 0, cells.rank[index] ?? 0];
  return (
    <>
      <p>{describeStates(countsOfCell(cells, index))}</p>
      <p className="of">
        levels {formatCount(level)}–{formatCount(level + cells.num_levels - 1)}, ranks {formatCount(rank)}–
        {formatCount(rank + cells.num_ranks - 1)}
      </p>
    </>
  );
}

function placeOf({ points }: WholeWindow, { index }: Standing): Place {
  return { level: points?.level[index] ?? 0, rank: points?.rank[index] ?? 0 };
}
