/** Quantities over time, drawn by uPlot, and the same numbers as a table. */
import { lazy, Suspense, useId } from "react";

import { formatInstantOf } from "../lib/format";
import { useIsDark } from "../shell/theme";
import { ScrollTable } from "./ScrollTable";
import { TwinTable } from "./TwinTable";
import "./TimeChart.css";

const TimePlot = lazy(async () => ({ default: (await import("./TimePlot")).TimePlot }));

/** One quantity: a value for each bin, which holds from its beginning to that of the next. */
export interface TimeSeries {
  name: string;
  /** null where nothing is known. */
  values: readonly (number | null)[];
  /** A name of tokens.css. */
  colour: `--${string}`;
  /** An area for what is counted, a line for what bounds it. */
  look: "area" | "line";
}

export interface TimeChartProps {
  title: string;
  /** Where each bin begins, in seconds since the Unix epoch. */
  at: readonly number[];
  /** Where the last bin ends. */
  end: number;
  series: readonly TimeSeries[];
  format: (value: number) => string;
}

/** Nothing here reacts to more than the pointer, so the table is all that a screen reader needs. */
export function TimeChart({ title, ...data }: TimeChartProps) {
  const isDark = useIsDark();
  const id = useId();
  const names = data.series.map(({ name }) => name).join("\n");
  return (
    <figure className="chart" aria-labelledby={id}>
      <figcaption id={id}>{title}</figcaption>
      <div className="chart-plot" aria-hidden="true">
        <Suspense>
          <TimePlot key={`${isDark}${names}`} {...data} />
        </Suspense>
      </div>
      <TwinTable>
        <BinTable title={title} {...data} />
      </TwinTable>
    </figure>
  );
}

function BinTable({ title, at, series, format }: TimeChartProps) {
  return (
    <ScrollTable label={title}>
      <thead>
        <tr>
          <th scope="col">From</th>
          {series.map(({ name }) => (
            <th key={name} scope="col" className="number">
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {at.map((second, bin) => (
          <tr key={second}>
            <th scope="row" className="nowrap">
              {formatInstantOf(second)}
            </th>
            {series.map(({ name, values }) => {
              const value = values[bin];
              return (
                <td key={name} className="number">
                  {value == null ? "–" : format(value)}
                </td>
              );
            })}
          </tr>
        ))}
      </tbody>
    </ScrollTable>
  );
}
