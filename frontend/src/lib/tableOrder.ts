/** The order of a short table, as an address says it: "name" or, descending, "-name". Pure. */

export interface TableOrder<Key extends string> {
  key: Key;
  isDescending: boolean;
}

/** Read an order; what names no column is that which stands for none. */
export function parseOrder<Key extends string>(
  text: string | null,
  keys: readonly Key[],
  usual: TableOrder<Key>,
): TableOrder<Key> {
  const isDescending = text?.startsWith("-") ?? false;
  const key = keys.find((known) => known === text?.slice(isDescending ? 1 : 0));
  return key === undefined ? usual : { key, isDescending };
}

export function formatOrder({ key, isDescending }: TableOrder<string>): string {
  return isDescending ? `-${key}` : key;
}

/** Return rows by a column; those without a value come last, and what is equal stays in its order. */
export function sortRows<Row>(
  rows: readonly Row[],
  valueOf: (row: Row) => string | number | null,
  isDescending: boolean,
): Row[] {
  const sign = isDescending ? -1 : 1;
  return [...rows].sort((a, b) => {
    const [left, right] = [valueOf(a), valueOf(b)];
    if (left === null || right === null) {
      return Number(left === null) - Number(right === null);
    }
    if (typeof left === "string" || typeof right === "string") {
      return sign * String(left).localeCompare(String(right), "en", { numeric: true });
    }
    return sign * (left - right);
  });
}
