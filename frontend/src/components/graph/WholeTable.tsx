/** A window of the whole graph as a table: chores that can be opened, or cells that count them. */
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "react-router";

import { placeQuery, type WholeWindow } from "../../api/useGraph";
import { choreAddress } from "../../lib/choreAddress";
import { formatCount } from "../../lib/format";
import { ChoreStateMark } from "../ChoreStateBadge";
import { ScrollTable } from "../ScrollTable";
import { TwinTable } from "../TwinTable";
import { describeStates } from "./StatesBar";
import { countsOfCell, placeRows, type Cells } from "./wholeRows";

const MAX_PLACE_ROWS = 200;

interface WholeTableProps {
  runId: string;
  window: WholeWindow;
}

export function WholeTable({ runId, window }: WholeTableProps) {
  const total = window.cells?.level.length ?? window.points?.level.length ?? 0;
  return (
    <TwinTable>
      {window.cells !== null ? <CellTable cells={window.cells} /> : <PlaceTable runId={runId} window={window} />}
      {total > MAX_PLACE_ROWS && (
        <p className="more">
          Showing {formatCount(MAX_PLACE_ROWS)} of {formatCount(total)}. A smaller window has fewer.
        </p>
      )}
    </TwinTable>
  );
}

function PlaceTable({ runId, window }: WholeTableProps) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  const open = async (level: number, rank: number) => {
    const { id } = await queries.query(placeQuery(runId, level, rank));
    await navigate(choreAddress(runId, id));
  };
  return (
    <ScrollTable label="Chores in the window">
      <thead>
        <tr>
          <th scope="col" className="number">
            Level
          </th>
          <th scope="col" className="number">
            Rank
          </th>
          <th scope="col">State</th>
          <th scope="col" className="number">
            Upstream
          </th>
          <th scope="col" className="number">
            Downstream
          </th>
          <th scope="col">Chore</th>
        </tr>
      </thead>
      <tbody>
        {placeRows(window, MAX_PLACE_ROWS).map(({ level, rank, state, numUpstream, numDownstream }) => (
          <tr key={`${level} ${rank}`}>
            <td className="number">{formatCount(level)}</td>
            <td className="number">{formatCount(rank)}</td>
            <td>
              <ChoreStateMark state={state} />
            </td>
            <td className="number">{formatCount(numUpstream)}</td>
            <td className="number">{formatCount(numDownstream)}</td>
            <td>
              <button
                type="button"
                aria-label={`Open the chore at level ${level}, rank ${rank}`}
                onClick={() => void open(level, rank)}
              >
                Open
              </button>
            </td>
          </tr>
        ))}
      </tbody>
    </ScrollTable>
  );
}

function CellTable({ cells }: { cells: Cells }) {
  return (
    <ScrollTable label="Cells in the window">
      <thead>
        <tr>
          <th scope="col">Levels</th>
          <th scope="col">Ranks</th>
          <th scope="col">Chores</th>
        </tr>
      </thead>
      <tbody>
        {cells.level.slice(0, MAX_PLACE_ROWS).map((level, index) => {
          const rank = cells.rank[index] ?? 0;
          return (
            <tr key={`${level} ${rank}`}>
              <th scope="row" className="nowrap">
                {formatCount(level)}–{formatCount(level + cells.num_levels - 1)}
              </th>
              <td className="nowrap">
                {formatCount(rank)}–{formatCount(rank + cells.num_ranks - 1)}
              </td>
              <td>{describeStates(countsOfCell(cells, index))}</td>
            </tr>
          );
        })}
      </tbody>
    </ScrollTable>
  );
}
