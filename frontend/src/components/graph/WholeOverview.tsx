import { useEffect, useRef, useState } from "react";

import type { WholeWindow } from "../../api/useGraph";
import { clearCanvas, paletteOf, type Size } from "../../lib/canvas";
import { useGestures } from "../../lib/gestures";
import { useIsDark } from "../../shell/theme";
import { paintFrame, paintWhole } from "./paintWhole";
import { fitView, placeAt, type Extent, type View } from "./wholeView";

const SIZE: Size = { width: 180, height: 90 };

interface WholeOverviewProps {
  overview: WholeWindow;
  extent: Extent;
  /** What the large drawing shows. */
  view: View;
  /** Of the large drawing. */
  screen: Size;
  onCentre: (level: number, rank: number) => void;
}

/** All of it, small, with a frame around what is seen; for the pointer, keys move the large one. */
export function WholeOverview({ overview, extent, view, screen, onCentre }: WholeOverviewProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [area, setArea] = useState<HTMLDivElement | null>(null);
  const isDark = useIsDark();
  const small = fitView(extent, SIZE);
  useGestures(area, {
    isWheelTaken: false,
    move: (dx, dy) => {
      onCentre(
        view.level + screen.width / view.perLevel / 2 + dx / small.perLevel,
        view.rank + screen.height / view.perRank / 2 + dy / small.perRank,
      );
    },
    zoom: () => undefined,
    fit: () => undefined,
    point: () => undefined,
    click: (at) => {
      const { level, rank } = placeAt(small, at);
      onCentre(level, rank);
    },
  });
  useEffect(() => {
    if (canvas.current !== null) {
      const pencil = clearCanvas(canvas.current, SIZE);
      const palette = paletteOf(isDark);
      paintWhole(pencil, overview, small, SIZE, palette);
      const levels = screen.width / view.perLevel;
      const ranks = screen.height / view.perRank;
      paintFrame(pencil, small, { level: view.level, rank: view.rank, levels, ranks }, palette);
    }
  });
  return (
    <div ref={setArea} className="whole-overview" aria-hidden="true">
      <canvas ref={canvas} style={SIZE} />
    </div>
  );
}
