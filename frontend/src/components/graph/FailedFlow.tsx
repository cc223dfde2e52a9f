import { useMemo } from "react";
import { useNavigate } from "react-router";

import { useFailedGraph } from "../../api/useGraph";
import { formatCount, formatQuantity } from "../../lib/format";
import { ErrorNotice } from "../ErrorNotice";
import { FreshnessLine } from "../FreshnessLine";
import { LeftOut, MAX_FLOW_NODES } from "./ChoreFlow";
import { FlowDrawing } from "./FlowDrawing";
import { flowOfChores } from "./flowItem";
import { FlowTable } from "./FlowTable";
import { graphAddress, type GraphQuestion } from "./graphAddress";
import { StepField } from "./StepField";

/** Failures with what they depend on, and how many chores were skipped because of each. */
export function FailedFlow({ runId, question }: { runId: string; question: GraphQuestion }) {
  const navigate = useNavigate();
  const { data: graph, error } = useFailedGraph(runId, { up: question.up, limit: MAX_FLOW_NODES });
  const flow = useMemo(() => (graph === undefined ? null : flowOfChores(runId, graph)), [runId, graph]);
  return (
    <>
      <div className="drawing-bar">
        <StepField
          label="Steps upstream"
          value={question.up}
          onChange={(up) => void navigate(graphAddress(runId, { ...question, up }))}
        />
      </div>
      {error !== null && <ErrorNotice error={error} hasData={graph !== undefined} />}
      {flow === null && error === null && <p className="loading">Reading the failures…</p>}
      {graph !== undefined && <FreshnessLine freshness={graph.freshness} />}
      {graph?.num_failures === 0 && <p className="loading">Nothing has failed.</p>}
      {flow !== null && graph !== undefined && graph.num_failures > 0 && (
        <>
          <FlowDrawing
            label="Failures and what they depend on"
            flow={flow}
            focus={null}
            onPick={(item) => void navigate(graphAddress(runId, { ...question, view: "chore", chore: item.title }))}
          />
          {graph.num_failures_left_out > 0 && (
            <p className="more">
              Showing the first {formatCount(graph.num_failures - graph.num_failures_left_out)} of{" "}
              {formatQuantity(graph.num_failures, "failure")}.
            </p>
          )}
          <LeftOut graph={graph} />
          <p className="of drawing-hint">
            A click shows what is around a chore, a double click opens it; with the keyboard, Enter opens it.
          </p>
          <FlowTable flow={flow} />
        </>
      )}
    </>
  );
}
