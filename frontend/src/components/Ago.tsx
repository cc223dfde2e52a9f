import { serverNow } from "../api/serverClock";
import { formatAgo, formatInstant } from "../lib/format";

/** How long ago something was; the instant itself shows on hover. */
export function Ago({ at }: { at: string }) {
  return (
    <time dateTime={at} title={formatInstant(at)}>
      {formatAgo((serverNow() - Date.parse(at)) / 1000)}
    </time>
  );
}
