/** Numbers, durations and instants as text. */

const INTEGER = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const THREE_DIGITS = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 });
const TWO_DIGITS = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 2 });
const INSTANT = new Intl.DateTimeFormat("en-GB", {
  year: "numeric",
  month: "short",
  day: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});

export function formatCount(count: number): string {
  return INTEGER.format(count);
}

/** Three digits: "0.123", "12.3", "1,230". */
export function formatNumber(value: number): string {
  return THREE_DIGITS.format(value);
}

/** "1 chore", "2 chores", "1,000 chores". */
export function formatQuantity(count: number, singular: string, plural = `${singular}s`): string {
  return `${formatCount(count)} ${count === 1 ? singular : plural}`;
}

/** Share in percent; 100 only when nothing is left, so that "100%" is never early. */
export function formatPercent(part: number, whole: number): string {
  if (whole === 0) {
    return "0%";
  }
  return part < whole ? `${Math.min(99, Math.floor((100 * part) / whole))}%` : "100%";
}

/** Two units at most: "0 s", "42 s", "3 min 5 s", "1 h 04 min", "2 d 3 h". */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) {
    return `${whole} s`;
  }
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) {
    return `${minutes} min ${whole % 60} s`;
  }
  const hours = Math.floor(minutes / 60);
  if (hours < 24) {
    return `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
  }
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Chores per second, in the unit in which the number is readable. */
export function formatRate(perSecond: number): string {
  if (perSecond >= 1) {
    return `${THREE_DIGITS.format(perSecond)} / s`;
  }
  if (perSecond >= 1 / 60) {
    return `${THREE_DIGITS.format(perSecond * 60)} / min`;
  }
  return `${THREE_DIGITS.format(perSecond * 3600)} / h`;
}

/** An instant in the reader's time zone. */
export function formatInstant(iso: string): string {
  const instant = Date.parse(iso);
  return Number.isNaN(instant) ? iso : INSTANT.format(instant);
}

/** The same of seconds since the Unix epoch. */
export function formatInstantOf(seconds: number): string {
  return INSTANT.format(seconds * 1000);
}

/** Node-hours, core-hours: "0.04", "3.2", "1,250". */
export function formatHours(hours: number): string {
  return hours < 100 ? TWO_DIGITS.format(hours) : INTEGER.format(hours);
}

/** How long ago, in one unit: "just now", "5 min ago", "3 d ago". */
export function formatAgo(seconds: number): string {
  const minutes = Math.floor(seconds / 60);
  if (seconds < 5) {
    return "just now";
  }
  if (minutes < 1) {
    return `${Math.floor(seconds)} s ago`;
  }
  if (minutes < 60) {
    return `${minutes} min ago`;
  }
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ago` : `${formatCount(Math.floor(hours / 24))} d ago`;
}

/** "nonzero_exit" as "nonzero exit": the code stays recognisable. */
export function formatReason(reason: string): string {
  return reason.replaceAll("_", " ");
}

/** A duration that may be short, as a number to compare: "42 ms", "3.2 s", "1 h 04 min". */
export function formatSeconds(seconds: number): string {
  if (seconds > 0 && seconds < 0.1) {
    return `${THREE_DIGITS.format(1000 * seconds)} ms`;
  }
  return seconds < 60 ? `${THREE_DIGITS.format(seconds)} s` : formatDuration(seconds);
}

/** A size in decimal units: "512 B", "1.2 MB". */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  return `${THREE_DIGITS.format(bytes / 1000 ** power)} ${units[power] ?? ""}`;
}
