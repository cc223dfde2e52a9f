/** A short table whose columns sort it; the address holds the order. */
import type { ReactNode } from "react";
import { useSearchParams } from "react-router";

import { formatOrder, parseOrder, sortRows, type TableOrder } from "../lib/tableOrder";
import { ScrollTable } from "./ScrollTable";
import "./SortableTable.css";

export interface SortableColumn<Row> {
  /** In the address. */
  key: string;
  name: string;
  value: (row: Row) => string | number | null;
  /** What is shown; numbers stand to the right. */
  show: (row: Row) => ReactNode;
  isNumber: boolean;
}

interface SortableTableProps<Row> {
  label: string;
  /** Name of its order in the address. */
  parameter: string;
  /** The first is the head of the row. */
  columns: readonly SortableColumn<Row>[];
  rows: readonly Row[];
  rowKey: (row: Row) => string;
  /** The order where the address names none. */
  usual: TableOrder<string>;
}

export function SortableTable<Row>({ label, parameter, columns, rows, rowKey, usual }: SortableTableProps<Row>) {
  const [parameters, setParameters] = useSearchParams();
  const order = parseOrder(
    parameters.get(parameter),
    columns.map(({ key }) => key),
    usual,
  );
  const sorting = columns.find(({ key }) => key === order.key);
  const sorted = sorting === undefined ? rows : sortRows(rows, sorting.value, order.isDescending);
  const sortBy = (next: TableOrder<string>) => {
    setParameters(
      (before) => {
        const after = new URLSearchParams(before);
        after.set(parameter, formatOrder(next));
        return after;
      },
      { replace: true },
    );
  };
  return (
    <ScrollTable label={label}>
      <thead>
        <tr>
          {columns.map((column) => (
            <SortHead key={column.key} column={column} order={order} onSort={sortBy} />
          ))}
        </tr>
      </thead>
      <tbody>
        {sorted.map((row) => (
          <tr key={rowKey(row)}>
            {columns.map(({ key, show, isNumber }, place) =>
              place === 0 ? (
                <th key={key} scope="row" className="name">
                  {show(row)}
                </th>
              ) : (
                <td key={key} className={isNumber ? "number" : undefined}>
                  {show(row)}
                </td>
              ),
            )}
          </tr>
        ))}
      </tbody>
    </ScrollTable>
  );
}

interface SortHeadProps {
  column: Pick<SortableColumn<never>, "key" | "name" | "isNumber">;
  order: TableOrder<string>;
  onSort: (order: TableOrder<string>) => void;
}

function SortHead({ column: { key, name, isNumber }, order, onSort }: SortHeadProps) {
  const isSorted = order.key === key;
  return (
    <th
      scope="col"
      className={isNumber ? "number" : undefined}
      aria-sort={isSorted ? (order.isDescending ? "descending" : "ascending") : undefined}
    >
      <button
        type="button"
        className="sort-head"
        // Of numbers the large ones matter first.
        onClick={() => {
          onSort({ key, isDescending: isSorted ? !order.isDescending : isNumber });
        }}
      >
        {name}
        <span aria-hidden="true">{isSorted ? (order.isDescending ? " ↓" : " ↑") : " ↕"}</span>
      </button>
    </th>
  );
}
