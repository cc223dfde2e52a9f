/** What each host and each group used, to be sorted by any of it. */
import { Link } from "react-router";

import type { Schemas } from "../api/client";
import { choresAddress } from "../lib/choreAddress";
import { formatCount, formatHours, formatSeconds } from "../lib/format";
import { SortableTable, type SortableColumn } from "./SortableTable";

type HostUse = Schemas["LaneUseResponse"];
type GroupUse = Schemas["GroupUseResponse"];

const HOUR_SECONDS = 3600;
const BY_CORES = { key: "core_seconds", isDescending: true };

interface UseTableProps<Use> {
  runId: string;
  uses: readonly Use[];
  /** GPUs are told of where there are any. */
  hasGpus: boolean;
}

export function HostTable({ runId, uses, hasGpus }: UseTableProps<HostUse>) {
  const columns: SortableColumn<HostUse>[] = [
    nameColumn("host", (name) => choresAddress(runId, { host: name })),
    ...countColumns<HostUse>(),
    numberColumn("cores_busy", "cores busy", (use) => use.cores_busy, formatCount),
    ...hourColumns<HostUse>(hasGpus),
  ];
  return (
    <SortableTable label="Use by host" parameter="hosts" columns={columns} rows={uses} rowKey={nameOf} usual={BY_CORES} />
  );
}

export function GroupUseTable({ runId, uses, hasGpus }: UseTableProps<GroupUse>) {
  const columns: SortableColumn<GroupUse>[] = [
    nameColumn("group", (name) => choresAddress(runId, { group: name })),
    ...countColumns<GroupUse>(),
    ...hourColumns<GroupUse>(hasGpus),
    numberColumn("count", "ended", ({ durations }) => durations.count, formatCount),
    numberColumn("median", "median", ({ durations }) => durations.median, formatSeconds),
    numberColumn("p95", "95 %", ({ durations }) => durations.p95, formatSeconds),
    numberColumn("max", "longest", ({ durations }) => durations.max, formatSeconds),
  ];
  return (
    <SortableTable
      label="Use by group"
      parameter="groups"
      columns={columns}
      rows={uses}
      rowKey={nameOf}
      usual={BY_CORES}
    />
  );
}

function nameOf({ name }: HostUse): string {
  return name;
}

function nameColumn(name: string, addressOf: (name: string) => string): SortableColumn<HostUse> {
  return {
    key: "name",
    name,
    value: nameOf,
    show: (use) =>
      use.name === "" ? <span className="of">not known</span> : <Link to={addressOf(use.name)}>{use.name}</Link>,
    isNumber: false,
  };
}

function numberColumn<Use>(
  key: string,
  name: string,
  value: (use: Use) => number | null,
  format: (value: number) => string,
): SortableColumn<Use> {
  const show = (use: Use) => {
    const number = value(use);
    if (number === null) {
      return "–";
    }
    return number === 0 ? <span className="is-zero">0</span> : format(number);
  };
  return { key, name, value, show, isNumber: true };
}

function countColumns<Use extends HostUse>(): SortableColumn<Use>[] {
  return [
    numberColumn("running", "running", (use: Use) => use.running, formatCount),
    numberColumn("completed", "completed", (use: Use) => use.completed, formatCount),
    {
      // Attempts, of which some were followed by a better one: no list of chores has so many.
      ...numberColumn("failed", "failed attempts", (use: Use) => use.failed, formatCount),
      show: ({ failed }) => <span className={failed === 0 ? "is-zero" : "is-bad"}>{formatCount(failed)}</span>,
    },
  ];
}

function hourColumns<Use extends HostUse>(hasGpus: boolean): SortableColumn<Use>[] {
  const cores = numberColumn("core_seconds", "core-hours", (use: Use) => use.core_seconds, formatHoursOf);
  const gpus = numberColumn("gpu_seconds", "GPU-hours", (use: Use) => use.gpu_seconds, formatHoursOf);
  return hasGpus ? [cores, gpus] : [cores];
}

export function formatHoursOf(seconds: number): string {
  return formatHours(seconds / HOUR_SECONDS);
}
