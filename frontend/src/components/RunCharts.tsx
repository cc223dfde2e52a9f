import { useMemo } from "react";

import { useSeries, type Series } from "../api/useSeries";
import { formatCount, formatNumber } from "../lib/format";
import { ErrorNotice } from "./ErrorNotice";
import { FreshnessLine } from "./FreshnessLine";
import { TimeChart, type TimeSeries } from "./TimeChart";

const BINS = 150;
const UNITS = [
  { name: "second", seconds: 1 },
  { name: "minute", seconds: 60 },
  { name: "hour", seconds: 3600 },
] as const;

/** How fast the run went, and how much of its cores and GPUs was busy. */
export function RunCharts({ runId }: { runId: string }) {
  const { data, error } = useSeries(runId, BINS);
  if (data === undefined) {
    return error === null ? <p className="loading">Reading what happened…</p> : <ErrorNotice error={error} />;
  }
  return (
    <>
      <FreshnessLine freshness={data.freshness} />
      {data.run.end > 0 && (
        <div className="run-charts">
          <Throughput data={data} />
          <Busy data={data} title="Cores" busy={data.cores_busy} total={data.total_cores} />
          {data.total_gpus.some((total) => total > 0) && (
            <Busy data={data} title="GPUs" busy={data.gpus_busy} total={data.total_gpus} />
          )}
        </div>
      )}
    </>
  );
}

function Throughput({ data }: { data: Series }) {
  const { unit, series } = useMemo(() => describeThroughput(data), [data]);
  return (
    <TimeChart
      title={`Chores ended per ${unit}`}
      at={data.at}
      end={data.end}
      series={series}
      format={formatNumber}
    />
  );
}

interface BusyProps {
  data: Series;
  title: string;
  busy: readonly number[];
  total: readonly number[];
}

function Busy({ data, title, busy, total }: BusyProps) {
  const series = useMemo<TimeSeries[]>(
    () => [
      { name: "busy", values: known(data, busy), colour: "--fill-running", look: "area" },
      { name: "there", values: known(data, total), colour: "--ink-soft", look: "line" },
    ],
    [data, busy, total],
  );
  return <TimeChart title={title} at={data.at} end={data.end} series={series} format={formatMean} />;
}

function describeThroughput(data: Series): { unit: string; series: TimeSeries[] } {
  const perSecond = (counts: readonly number[]) =>
    counts.map((count, bin) => {
      const seconds = data.seconds[bin] ?? 0;
      return seconds > 0 ? count / seconds : null;
    });
  const completed = perSecond(data.completed);
  const failed = perSecond(data.failed);
  const most = Math.max(0, ...completed.map((rate) => rate ?? 0));
  const unit = UNITS.find(({ seconds }) => most * seconds >= 1) ?? UNITS[2];
  const scale = (rates: readonly (number | null)[]) =>
    rates.map((rate) => (rate === null ? null : rate * unit.seconds));
  return {
    unit: unit.name,
    series: [
      { name: "completed", values: scale(completed), colour: "--fill-completed", look: "area" },
      { name: "failed", values: scale(failed), colour: "--fill-failed", look: "area" },
    ],
  };
}

/** Means of few are no whole numbers. */
function formatMean(value: number): string {
  return value < 100 ? formatNumber(value) : formatCount(value);
}

/** Nothing is known of what lies outside of the run. */
function known(data: Series, values: readonly number[]): (number | null)[] {
  return values.map((value, bin) => ((data.seconds[bin] ?? 0) > 0 ? value : null));
}
