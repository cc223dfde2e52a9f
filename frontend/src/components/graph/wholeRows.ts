/** A window of the whole graph as rows of a table. Pure. */
import type { ChoreState } from "../../api/client";
import type { WholeWindow } from "../../api/useGraph";

export type Cells = NonNullable<WholeWindow["cells"]>;
type States = Partial<Record<ChoreState, number>>;

interface PlaceRow {
  level: number;
  rank: number;
  state: ChoreState;
  /** Drawn connections. */
  numUpstream: number;
  numDownstream: number;
}

/** How many chores of a cell are where. */
export function countsOfCell({ counts }: Cells, index: number): States {
  return Object.fromEntries(
    Object.entries(counts).flatMap(([state, column]) => {
      const count = column[index] ?? 0;
      return count > 0 ? [[state, count]] : [];
    }),
  );
}

/** The first chores of a window with how many of their connections are drawn. */
export function placeRows({ points, lines, states }: WholeWindow, most: number): PlaceRow[] {
  const numUpstream = countBy(lines?.downstream ?? []);
  const numDownstream = countBy(lines?.upstream ?? []);
  return (points?.level ?? []).slice(0, most).map((level, index) => ({
    level,
    rank: points?.rank[index] ?? 0,
    state: states[points?.state[index] ?? 0] ?? "blocked",
    numUpstream: numUpstream.get(index) ?? 0,
    numDownstream: numDownstream.get(index) ?? 0,
  }));
}

function countBy(places: readonly number[]): ReadonlyMap<number, number> {
  const counts = new Map<number, number>();
  for (const place of places) {
    counts.set(place, (counts.get(place) ?? 0) + 1);
  }
  return counts;
}
