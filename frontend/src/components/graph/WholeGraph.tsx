/** The whole graph on a canvas, of any depth and width, with places by the server. */
import { useState } from "react";

import { useWholeGraph, type WholeWindow } from "../../api/useGraph";
import { formatCount, formatQuantity } from "../../lib/format";
import { ChoreStateMark } from "../ChoreStateBadge";
import { ErrorNotice } from "../ErrorNotice";
import { FreshnessLine } from "../FreshnessLine";
import { ChosenChore } from "./ChosenChore";
import { WholeDrawing } from "./WholeDrawing";
import { WholeTable } from "./WholeTable";
import type { Extent } from "./wholeView";

/** Cells of the small picture of all of it. */
const OVERVIEW_CELLS = 2_000;

/** Where a chore stands. */
export interface Place {
  level: number;
  rank: number;
}

export function WholeGraph({ runId }: { runId: string }) {
  const { data: overview, error } = useWholeGraph(runId, null, OVERVIEW_CELLS);
  const [chosen, setChosen] = useState<Place | null>(null);
  const [window, setWindow] = useState<WholeWindow | null>(null);
  if (error !== null) {
    return <ErrorNotice error={error} />;
  }
  if (overview === undefined) {
    return <p className="loading">Reading the graph…</p>;
  }
  const extent: Extent = { numLevels: overview.num_levels, numRanks: overview.num_ranks };
  if (extent.numLevels === 0) {
    return <p className="loading">No chores yet.</p>;
  }
  const shown = window ?? overview;
  return (
    <>
      <FreshnessLine freshness={overview.freshness} />
      <WholeDrawing
        runId={runId}
        overview={overview}
        extent={extent}
        chosen={chosen}
        onChoose={setChosen}
        onWindow={setWindow}
      />
      {chosen !== null && <ChosenChore runId={runId} place={chosen} />}
      <p className="drawing-legend">
        {describe(shown, extent)}
        {(["completed", "failed", "skipped", "running", "blocked"] as const).map((state) => (
          <span key={state} className={`key key-${state === "blocked" ? "pending" : state}`}>
            <ChoreStateMark state={state} />
          </span>
        ))}
      </p>
      {shown.num_lines_left_out > 0 && (
        <p className="more">
          Left out: {formatQuantity(shown.num_lines_left_out, "connection")} to what is out of the window, or too many
          to draw.
        </p>
      )}
      {shown.num_gathers_left_out > 0 && (
        <p className="more">
          No lines are drawn from groups that are gathered as a whole; {formatQuantity(shown.num_gathers_left_out, "time")}{" "}
          that is so in the window.
        </p>
      )}
      <p className="of drawing-hint">
        Drag to move, wheel to zoom; a click on a chore tells which it is, a click on a cell zooms in.
      </p>
      <WholeTable runId={runId} window={shown} />
    </>
  );
}

function describe({ mode, num_chores }: WholeWindow, { numLevels, numRanks }: Extent): string {
  const whole = `${formatQuantity(numLevels, "level")} from left to right, up to ${formatQuantity(numRanks, "chore")} in one.`;
  return mode === "cells"
    ? `${whole} ${formatCount(num_chores)} in the window, too many to draw each: cells count them, with a red edge where any failed.`
    : `${whole} ${formatCount(num_chores)} in the window.`;
}
