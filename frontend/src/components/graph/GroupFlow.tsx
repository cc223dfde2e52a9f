import { useMemo } from "react";

import { useGroupGraph } from "../../api/useGraph";
import { formatQuantity } from "../../lib/format";
import { ErrorNotice } from "../ErrorNotice";
import { FreshnessLine } from "../FreshnessLine";
import { FlowDrawing } from "./FlowDrawing";
import { flowOfGroups } from "./flowItem";
import { FlowTable } from "./FlowTable";

/** What groups depend on what. */
export function GroupFlow({ runId }: { runId: string }) {
  const { data: graph, error } = useGroupGraph(runId);
  const flow = useMemo(() => (graph === undefined ? null : flowOfGroups(runId, graph)), [runId, graph]);
  return (
    <>
      {error !== null && <ErrorNotice error={error} hasData={graph !== undefined} />}
      {flow === null && error === null && <p className="loading">Reading the groups…</p>}
      {graph !== undefined && <FreshnessLine freshness={graph.freshness} />}
      {flow !== null && flow.items.length === 0 && <p className="loading">No chores yet.</p>}
      {flow !== null && graph !== undefined && flow.items.length > 0 && (
        <>
          <FlowDrawing label="Groups and what they depend on" flow={flow} focus={null} onPick={null} />
          {graph.num_left_out > 0 && (
            <p className="more">
              The groups with most chores are drawn; {formatQuantity(graph.num_left_out, "smaller group")} left out,
              with {formatQuantity(graph.num_edges_left_out, "connection")}.
            </p>
          )}
          {graph.num_left_out === 0 && graph.num_edges_left_out > 0 && (
            <p className="more">{formatQuantity(graph.num_edges_left_out, "connection")} left out: too many to draw.</p>
          )}
          <p className="of drawing-hint">
            Left is first. A number on a line is how many connections it stands for. A click on a group lists its
            chores.
          </p>
          <FlowTable flow={flow} />
        </>
      )}
    </>
  );
}
