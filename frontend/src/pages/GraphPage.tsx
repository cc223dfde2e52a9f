import { Link, useSearchParams } from "react-router";

import { ChoreFlow } from "../components/graph/ChoreFlow";
import { FailedFlow } from "../components/graph/FailedFlow";
import { graphAddress, parseGraph, VIEWS, type GraphView } from "../components/graph/graphAddress";
import { GroupFlow } from "../components/graph/GroupFlow";
import { WholeGraph } from "../components/graph/WholeGraph";
import { useRun } from "../shell/run";
import "../style/drawing.css";
import "./GraphPage.css";

const NAMES: Record<GraphView, string> = {
  groups: "Groups",
  chore: "Around a chore",
  failed: "Failures",
  whole: "Whole graph",
};

/** How the chores of a run hang together. */
export function GraphPage() {
  const { id } = useRun();
  const [parameters] = useSearchParams();
  const question = parseGraph(parameters);
  return (
    <section aria-labelledby="graph-title">
      <div className="graph-head">
        <h2 id="graph-title">Graph</h2>
        <nav className="graph-views" aria-label="Views of the graph">
          {VIEWS.map((view) => (
            <Link
              key={view}
              to={graphAddress(id, { ...question, view })}
              aria-current={view === question.view ? "page" : undefined}
            >
              {NAMES[view]}
            </Link>
          ))}
        </nav>
      </div>
      {question.view === "groups" && <GroupFlow runId={id} />}
      {question.view === "chore" && <ChoreFlow runId={id} question={question} />}
      {question.view === "failed" && <FailedFlow runId={id} question={question} />}
      {question.view === "whole" && <WholeGraph runId={id} />}
    </section>
  );
}
