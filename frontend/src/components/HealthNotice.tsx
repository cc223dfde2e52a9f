import type { Run } from "../api/client";
import { serverNow } from "../api/serverClock";
import { formatDuration, formatInstant } from "../lib/format";
import { judgeHealth } from "../lib/health";
import { useNow } from "../lib/useNow";
import { Notice } from "./Notice";

/** Says so when the driver is silent or lost; nothing while all is well. */
export function HealthNotice({ run }: { run: Run }) {
  const { health, status } = run;
  useNow(health === "alive");
  if (health === "lost") {
    return (
      <Notice tone="bad" title="Driver lost">
        <p>
          {run.problem}.{" "}
          {status?.updated_at != null && <LastNews at={status.updated_at} />} It may have been
          killed, or its allocation may have ended. What follows is the last that it wrote.
        </p>
      </Notice>
    );
  }
  if (health === "coming") {
    return (
      <Notice tone="caution" title="A new driver takes over">
        <p>It has published nothing yet; what follows is from the one before.</p>
      </Notice>
    );
  }
  if (health === "waiting") {
    return (
      <Notice tone="quiet" title="Not started yet">
        <p>
          Start it with <code>matensemble run DIR</code>.
        </p>
      </Notice>
    );
  }
  if (health === "unreadable") {
    return (
      <Notice tone="bad" title="The run cannot be read">
        <p>{run.problem}</p>
      </Notice>
    );
  }
  if (status != null && judgeHealth(status, serverNow()).kind === "late") {
    return (
      <Notice tone="caution" title="No news from the driver">
        <p>
          <LastNews at={status.updated_at ?? ""} /> The driver is slow, or the file system is.
        </p>
      </Notice>
    );
  }
  return null;
}

/** The age counts up; it is hidden from screen readers, which would read it out every second. */
function LastNews({ at }: { at: string }) {
  return (
    <>
      The last news is from {formatInstant(at)}
      <span aria-hidden="true">, {formatDuration((serverNow() - Date.parse(at)) / 1000)} ago</span>.
    </>
  );
}
