/** Where the ticks of a time axis stand and what they say, in the reader's time zone. Pure. */
import { spanOf, type TimeWindow } from "./timeWindow";

export interface Tick {
  /** Seconds since the Unix epoch. */
  at: number;
  label: string;
  /** Whether the label names a day rather than a time of it. */
  isDay: boolean;
}

const DAY_SECONDS = 86_400;
const STEPS = [
  0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600,
  43_200, 86_400, 172_800, 604_800, 1_209_600, 2_592_000, 7_776_000, 31_536_000,
];
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const MINUTE = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const SECOND = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});

/**
 * Return ticks that are no nearer to each other than `spacing` pixels.
 *
 * They stand at round times of the day; those of whole days at midnight, also where a day is an
 * hour longer or shorter.
 */
export function ticksOf(window: TimeWindow, width: number, spacing: number): Tick[] {
  const most = Math.max(1, Math.floor(width / spacing));
  const least = spanOf(window) / most;
  const step = STEPS.find((seconds) => seconds >= least) ?? Math.ceil(least / DAY_SECONDS) * DAY_SECONDS;
  const instants = step < DAY_SECONDS ? timesOfDay(window, step) : midnights(window, step);
  return instants.map((at) => name(at, step));
}

/** Multiples of the step since the midnight before, day by day. */
function timesOfDay({ start, end }: TimeWindow, step: number): number[] {
  const found: number[] = [];
  for (let day = midnightOf(start); day <= end; day = nextMidnight(day, 1)) {
    const next = nextMidnight(day, 1);
    const first = Math.max(0, Math.ceil((start - day) / step - 1e-9));
    for (let number = first; ; number++) {
      const at = day + number * step;
      // A day that is longer by an hour has room for one step more, which midnight takes.
      if (at > end || at > next - step / 2) {
        break;
      }
      found.push(at);
    }
  }
  return found;
}

function midnights({ start, end }: TimeWindow, step: number): number[] {
  const days = Math.round(step / DAY_SECONDS);
  const found: number[] = [];
  let at = midnightOf(start);
  if (at < start) {
    at = nextMidnight(at, 1);
  }
  for (; at <= end; at = nextMidnight(at, days)) {
    found.push(at);
  }
  return found;
}

function midnightOf(second: number): number {
  return new Date(second * 1000).setHours(0, 0, 0, 0) / 1000;
}

function nextMidnight(second: number, days: number): number {
  const day = new Date(second * 1000);
  return day.setDate(day.getDate() + days) / 1000;
}

function name(at: number, step: number): Tick {
  const instant = new Date(at * 1000);
  if (at === midnightOf(at)) {
    return { at, label: DAY.format(instant), isDay: true };
  }
  if (step < 1) {
    const part = Math.round((at % 1) * 10);
    return { at, label: `${SECOND.format(instant)}.${part % 10}`, isDay: false };
  }
  return { at, label: (step < 60 ? SECOND : MINUTE).format(instant), isDay: false };
}
