import { useMemo, type ReactNode } from "react";

import { useSeries, type Series } from "../api/useSeries";
import { useUtilisation } from "../api/useUtilisation";
import type { Schemas } from "../api/client";
import { ErrorNotice } from "../components/ErrorNotice";
import { FreshnessLine } from "../components/FreshnessLine";
import { TimeChart, type TimeSeries } from "../components/TimeChart";
import { formatHoursOf, GroupUseTable, HostTable } from "../components/UseTables";
import { formatCount, formatNumber, formatPercent } from "../lib/format";
import { useRun } from "../shell/run";

type Utilisation = Schemas["UtilisationResponse"];

const BINS = 300;

/** How much of what the run had was busy: in all, over time, by host and by group. */
export function UtilisationPage() {
  const { id } = useRun();
  const { data: use, error } = useUtilisation(id);
  const series = useSeries(id, BINS);
  const trouble = error ?? series.error;
  const hasGpus = use !== undefined && (use.total_gpu_seconds > 0 || use.gpu_seconds > 0);
  return (
    <>
      <h2 className="unseen">Utilisation</h2>
      {trouble !== null && <ErrorNotice error={trouble} hasData={use !== undefined} />}
      {use === undefined && trouble === null && <p className="loading">Adding up what was used…</p>}
      {use !== undefined && (
        <>
          <FreshnessLine freshness={use.freshness} />
          <UseFacts use={use} hasGpus={hasGpus} />
          {series.data !== undefined && series.data.at.length > 0 && (
            <BusyCharts series={series.data} hasGpus={hasGpus} />
          )}
          <UseSection title="By group" shown={use.groups.length} total={use.num_groups} what="groups">
            <GroupUseTable runId={id} uses={use.groups} hasGpus={hasGpus} />
          </UseSection>
          <UseSection title="By host" shown={use.hosts.length} total={use.num_hosts} what="hosts">
            <HostTable runId={id} uses={use.hosts} hasGpus={hasGpus} />
          </UseSection>
        </>
      )}
    </>
  );
}

function UseFacts({ use, hasGpus }: { use: Utilisation; hasGpus: boolean }) {
  return (
    <dl className="facts">
      <Share name="Core-hours" used={use.core_seconds} had={use.total_core_seconds} />
      {hasGpus && <Share name="GPU-hours" used={use.gpu_seconds} had={use.total_gpu_seconds} />}
      <div>
        <dt>Node-hours</dt>
        <dd>{formatHoursOf(use.total_node_seconds)}</dd>
      </div>
    </dl>
  );
}

/** What was busy of what was there. */
function Share({ name, used, had }: { name: string; used: number; had: number }) {
  return (
    <>
      <div>
        <dt>{name} busy</dt>
        <dd>
          {formatHoursOf(used)} {had > 0 && <span className="of">of {formatHoursOf(had)}</span>}
        </dd>
      </div>
      {had > 0 && (
        <div>
          <dt>Efficiency, {name === "Core-hours" ? "cores" : "GPUs"}</dt>
          <dd>{formatPercent(used, had)}</dd>
        </div>
      )}
    </>
  );
}

function BusyCharts({ series, hasGpus }: { series: Series; hasGpus: boolean }) {
  const { at, end } = series;
  const cores = useMemo(() => describeBusy(series, series.cores_busy, series.total_cores), [series]);
  const gpus = useMemo(() => describeBusy(series, series.gpus_busy, series.total_gpus), [series]);
  return (
    <>
      <TimeChart title="Cores" at={at} end={end} series={cores} format={formatNumber} />
      {hasGpus && <TimeChart title="GPUs" at={at} end={end} series={gpus} format={formatNumber} />}
    </>
  );
}

function describeBusy({ seconds }: Series, busy: readonly number[], there: readonly number[]): TimeSeries[] {
  // Nothing is known of what lies outside of the run.
  const known = (values: readonly number[]) => values.map((value, bin) => ((seconds[bin] ?? 0) > 0 ? value : null));
  return [
    { name: "busy", values: known(busy), colour: "--fill-running", look: "area" },
    { name: "there", values: known(there), colour: "--ink-soft", look: "line" },
  ];
}

interface UseSectionProps {
  title: string;
  shown: number;
  total: number;
  what: string;
  children: ReactNode;
}

function UseSection({ title, shown, total, what, children }: UseSectionProps) {
  const id = `use-${what}`;
  return (
    <section aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      {shown === 0 ? <p className="of">Nothing has run yet.</p> : children}
      {shown < total && (
        <p className="more">
          Showing the {formatCount(shown)} {what} that did most, of {formatCount(total)}.
        </p>
      )}
    </section>
  );
}
