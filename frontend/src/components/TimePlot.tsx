/** The canvas of a `TimeChart`. A module of its own, so that uPlot is loaded where it is shown. */
import { useEffect, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import { formatInstantOf } from "../lib/format";
import { colourOf } from "../shell/theme";
import type { TimeChartProps, TimeSeries } from "./TimeChart";

const HEIGHT = 180;
const DAY_SECONDS = 86_400;
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const MINUTE = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const SECOND = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

/** Colours and names are taken when it is made; who changes these gives it another key. */
export function TimePlot({ at, end, series, format }: Omit<TimeChartProps, "title">) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(null);
  useEffect(() => {
    const data = columns(at, end, series);
    if (plot.current !== null) {
      plot.current.setData(data);
    } else if (place.current !== null) {
      plot.current = new uPlot(makeOptions(place.current.clientWidth, series, format), data, place.current);
    }
  }, [at, end, series, format]);
  useEffect(() => {
    const resizing = new ResizeObserver(() => {
      if (place.current !== null) {
        plot.current?.setSize({ width: place.current.clientWidth, height: HEIGHT });
      }
    });
    if (place.current !== null) {
      resizing.observe(place.current);
    }
    return () => {
      resizing.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, []);
  return <div ref={place} />;
}

/** Steps hold until the next point, so the last bin needs one at its end. */
function columns(
  at: readonly number[],
  end: number,
  series: readonly TimeSeries[],
): uPlot.AlignedData {
  return [
    [...at, end],
    ...series.map(({ values }) => [...values, values.at(-1) ?? null]),
  ] as uPlot.AlignedData;
}

function makeOptions(
  width: number,
  series: readonly TimeSeries[],
  format: (value: number) => string,
): uPlot.Options {
  const line = colourOf("--line");
  const ink = colourOf("--ink-soft");
  const font = `12px ${getComputedStyle(document.body).fontFamily}`;
  const axis = { stroke: ink, font, grid: { stroke: line, width: 1 }, ticks: { stroke: line, size: 4 } };
  return {
    width,
    height: HEIGHT,
    cursor: { drag: { x: false, y: false }, sync: { key: "time" } },
    scales: { y: { range: (_, __, max) => [0, max > 0 ? max * 1.05 : 1] } },
    axes: [
      { ...axis, values: nameInstants, space: 70 },
      { ...axis, values: (_, splits) => splits.map(format), size: 64 },
    ],
    series: [
      { label: "From", value: (_, second: number | null) => (second == null ? "–" : formatInstantOf(second)) },
      ...series.map((one) => drawSeries(one, format)),
    ],
  };
}

function drawSeries(
  { name, colour, look }: TimeSeries,
  format: (value: number) => string,
): uPlot.Series {
  const stroke = colourOf(colour);
  return {
    label: name,
    stroke,
    width: 1.5,
    points: { show: false },
    value: (_, value: number | null) => (value == null ? "–" : format(value)),
    paths: uPlot.paths.stepped?.({ align: 1 }) ?? (() => null),
    ...(look === "area" ? { fill: fade(stroke) } : { dash: [5, 4] }),
  };
}

/** Name the ticks of the time axis, midnight by its day. */
function nameInstants(_: uPlot, splits: number[], __: number, ___: number, step: number): string[] {
  return splits.map((second) => {
    const instant = new Date(second * 1000);
    const isMidnight = instant.getHours() === 0 && instant.getMinutes() === 0;
    if (step >= DAY_SECONDS || (isMidnight && instant.getSeconds() === 0)) {
      return DAY.format(instant);
    }
    return (step < 60 ? SECOND : MINUTE).format(instant);
  });
}

/** A colour as computed styles write it, for the area below its line. */
function fade(colour: string): string {
  return colour.replace("rgb(", "rgba(").replace(")", ", 0.18)");
}
