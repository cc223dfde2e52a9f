/** One node of a drawing: a link with the state beside it. */
import { Handle, Position, type Node, type NodeProps } from "@xyflow/react";
import { Link, useNavigate } from "react-router";

import { presentChoreState } from "../../lib/choreState";
import { formatCount } from "../../lib/format";
import { ChoreStateSign } from "../ChoreStateBadge";
import { totalOf, type FlowItem } from "./flowItem";
import { describeStates, StatesBar } from "./StatesBar";

interface FlowNodeData extends Record<string, unknown> {
  item: FlowItem;
  /** Whether the drawing is about it. */
  isFocus: boolean;
  /** What a click by pointer does instead of opening the link, which a double click and Enter do. */
  onPick: (() => void) | null;
  onFocus: () => void;
}
export type FlowNodeType = Node<FlowNodeData, "item">;

export function FlowNode({ data }: NodeProps<FlowNodeType>) {
  const { item, isFocus } = data;
  return (
    <div className={`flow-node is-${item.kind}${isFocus ? " is-focus" : ""}`}>
      <Handle type="target" position={Position.Left} isConnectable={false} />
      {item.state === null ? <ManyNode data={data} /> : <ChoreNode data={data} state={item.state} />}
      <Handle type="source" position={Position.Right} isConnectable={false} />
    </div>
  );
}

function ChoreNode({ data, state }: { data: FlowNodeData; state: NonNullable<FlowItem["state"]> }) {
  const { tone, word } = presentChoreState(state);
  return (
    <div className={`flow-head tone-${tone}`}>
      <More count={data.item.moreUpstream} where="upstream" />
      <ChoreStateSign state={state} />
      <NodeLink data={data} label={`${data.item.title}, ${word}`} />
      <More count={data.item.moreDownstream} where="downstream" />
    </div>
  );
}

function ManyNode({ data }: { data: FlowNodeData }) {
  const { item } = data;
  const total = totalOf(item);
  const { failed = 0 } = item.states;
  return (
    <>
      <div className="flow-head">
        <NodeLink data={data} label={`${item.title}, ${formatCount(total)}`} />
        {item.kind === "group" && <span className="flow-total">{formatCount(total)}</span>}
      </div>
      <StatesBar states={item.states} />
      <div className="flow-foot">
        <span title={describeStates(item.states)}>{summarise(item)}</span>
        {item.failedAddress !== null && (
          <Link className="is-bad" draggable={false} to={item.failedAddress} onFocus={data.onFocus}>
            {formatCount(failed)} failed
          </Link>
        )}
      </div>
    </>
  );
}

/** The failed have a link of their own beside it. */
function summarise({ kind, states }: FlowItem): string {
  if (kind === "cascade") {
    return "because of the failure";
  }
  return describeStates({ ...states, failed: 0 });
}

function NodeLink({ data, label }: { data: FlowNodeData; label: string }) {
  const navigate = useNavigate();
  const { item, onPick, onFocus } = data;
  return (
    <Link
      className="flow-link"
      draggable={false}
      to={item.address}
      title={item.title}
      aria-label={label}
      aria-current={data.isFocus || undefined}
      onFocus={onFocus}
      onClick={(event) => {
        // `detail` counts the clicks; it is 0 where the keyboard did it.
        if (onPick !== null && event.detail === 1 && !(event.ctrlKey || event.metaKey || event.shiftKey)) {
          event.preventDefault();
          onPick();
        }
      }}
      onDoubleClick={() => void navigate(item.address)}
    >
      {item.title}
    </Link>
  );
}

function More({ count, where }: { count: number; where: "upstream" | "downstream" }) {
  return count === 0 ? null : (
    <span className="flow-more" title={`${formatCount(count)} more ${where}, not drawn`}>
      +{formatCount(count)}
    </span>
  );
}
