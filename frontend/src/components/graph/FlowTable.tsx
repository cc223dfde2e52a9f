/** What a drawing of nodes shows, as a table. */
import { useMemo, type ReactNode } from "react";
import { Link } from "react-router";

import { formatCount, formatQuantity } from "../../lib/format";
import { ChoreStateMark } from "../ChoreStateBadge";
import { ScrollTable } from "../ScrollTable";
import { TwinTable } from "../TwinTable";
import type { Flow, FlowItem } from "./flowItem";
import { describeStates } from "./StatesBar";

/** Names in a cell; more are counted. */
const MAX_NAMES = 5;

export function FlowTable({ flow }: { flow: Flow }) {
  return (
    <TwinTable>
      <Rows flow={flow} />
    </TwinTable>
  );
}

function Rows({ flow }: { flow: Flow }) {
  const around = useMemo(() => connect(flow), [flow]);
  return (
    <ScrollTable label="What is drawn">
      <thead>
        <tr>
          <th scope="col">Name</th>
          <th scope="col">State</th>
          <th scope="col">Depends on</th>
          <th scope="col">Needed by</th>
        </tr>
      </thead>
      <tbody>
        {flow.items.map((item) => (
          <tr key={item.id}>
            <th scope="row" className="name">
              <Link to={item.address}>{item.title}</Link>
            </th>
            <td>
              {item.state === null ? describeStates(item.states) : <ChoreStateMark state={item.state} />}
            </td>
            <td>
              <Names items={around.get(item.id)?.upstream ?? []} numMore={item.moreUpstream} />
            </td>
            <td>
              <Names items={around.get(item.id)?.downstream ?? []} numMore={item.moreDownstream} />
            </td>
          </tr>
        ))}
      </tbody>
    </ScrollTable>
  );
}

function Names({ items, numMore }: { items: readonly FlowItem[]; numMore: number }): ReactNode {
  const numLeft = Math.max(0, items.length - MAX_NAMES) + numMore;
  if (items.length === 0 && numLeft === 0) {
    return <span className="of">–</span>;
  }
  return (
    <>
      {items.slice(0, MAX_NAMES).map((item, place) => (
        <span key={item.id}>
          {place > 0 && ", "}
          <Link to={item.address}>{item.title}</Link>
        </span>
      ))}
      {numLeft > 0 && (
        <span className="of">{items.length > 0 ? ` and ${formatCount(numLeft)} more` : formatQuantity(numLeft, "connection")}</span>
      )}
    </>
  );
}

interface Around {
  upstream: FlowItem[];
  downstream: FlowItem[];
}

function connect({ items, edges }: Flow): ReadonlyMap<string, Around> {
  const byId = new Map(items.map((item) => [item.id, item]));
  const around = new Map<string, Around>(items.map(({ id }) => [id, { upstream: [], downstream: [] }]));
  for (const { source, target } of edges) {
    const [before, after] = [byId.get(source), byId.get(target)];
    if (before !== undefined && after !== undefined) {
      around.get(target)?.upstream.push(before);
      around.get(source)?.downstream.push(after);
    }
  }
  return around;
}
