/** A chore with what is around it, and the way from one to the next. */
import { useMemo } from "react";
import { Link, useNavigate } from "react-router";

import { useNeighbourhood, type ChoreGraph } from "../../api/useGraph";
import { choreAddress } from "../../lib/choreAddress";
import { formatQuantity } from "../../lib/format";
import { ErrorNotice } from "../ErrorNotice";
import { FreshnessLine } from "../FreshnessLine";
import { ChorePicker } from "./ChorePicker";
import { FlowDrawing } from "./FlowDrawing";
import { flowOfChores } from "./flowItem";
import { FlowTable } from "./FlowTable";
import { graphAddress, type GraphQuestion } from "./graphAddress";
import { StepField } from "./StepField";

export const MAX_FLOW_NODES = 200;

interface ChoreFlowProps {
  runId: string;
  question: GraphQuestion;
}

export function ChoreFlow({ runId, question }: ChoreFlowProps) {
  const navigate = useNavigate();
  const ask = (changes: Partial<GraphQuestion>) =>
    void navigate(graphAddress(runId, { ...question, ...changes }));
  return (
    <>
      <div className="drawing-bar">
        <ChorePicker
          key={question.chore}
          runId={runId}
          chore={question.chore}
          onPick={(chore) => {
            ask({ chore });
          }}
        />
        {question.chore !== "" && (
          <>
            <StepField
              label="Steps upstream"
              value={question.up}
              onChange={(up) => {
                ask({ up });
              }}
            />
            <StepField
              label="Steps downstream"
              value={question.down}
              onChange={(down) => {
                ask({ down });
              }}
            />
            <Link to={choreAddress(runId, question.chore)}>Open the chore</Link>
          </>
        )}
      </div>
      {question.chore === "" ? (
        <p className="loading">Which chore? Type a part of its id, or come here from its page.</p>
      ) : (
        <Neighbourhood
          runId={runId}
          question={question}
          onPick={(chore) => {
            ask({ chore });
          }}
        />
      )}
    </>
  );
}

interface NeighbourhoodProps extends ChoreFlowProps {
  onPick: (chore: string) => void;
}

function Neighbourhood({ runId, question: { chore, up, down }, onPick }: NeighbourhoodProps) {
  const { data: graph, error } = useNeighbourhood(runId, { chore, up, down, limit: MAX_FLOW_NODES });
  const flow = useMemo(() => (graph === undefined ? null : flowOfChores(runId, graph)), [runId, graph]);
  if (error !== null) {
    return <ErrorNotice error={error} />;
  }
  if (flow === null || graph === undefined) {
    return <p className="loading">Reading what is around it…</p>;
  }
  return (
    <>
      <FreshnessLine freshness={graph.freshness} />
      <FlowDrawing
        label={`What ${chore} depends on and what depends on it`}
        flow={flow}
        focus={flow.items[0]?.id ?? null}
        onPick={(item) => {
          onPick(item.title);
        }}
      />
      <LeftOut graph={graph} />
      <p className="of drawing-hint">
        A click goes to a chore, a double click opens it; with the keyboard, Enter opens it.
      </p>
      <FlowTable flow={flow} />
    </>
  );
}

/** What is not drawn of a part of the graph; nothing where nothing is missing. */
export function LeftOut({ graph }: { graph: ChoreGraph }) {
  const { num_left_out: numChores, num_edges_left_out: numEdges } = graph;
  return (
    <>
      {numChores > 0 && (
        <p className="more">
          Left out: {formatQuantity(numChores, "connection")} to chores for which there was no room. Fewer steps show
          what is near.
        </p>
      )}
      {numEdges > 0 && (
        <p className="more">Left out: {formatQuantity(numEdges, "line")} between what is drawn.</p>
      )}
    </>
  );
}
