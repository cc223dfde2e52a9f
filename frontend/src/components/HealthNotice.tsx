import type { RunStatus } from "../api/client";
import { formatDuration, formatInstant } from "../lib/format";
import type { Health } from "../lib/health";
import { Notice } from "./Notice";

interface HealthNoticeProps {
  health: Health;
  status: RunStatus;
}

/** Says so when the driver is silent; nothing while all is well. */
export function HealthNotice({ health, status }: HealthNoticeProps) {
  if (health.kind === "late") {
    return (
      <Notice tone="caution" title="No news from the driver">
        <p>
          <LastNews at={status.updated_at} ageSeconds={health.ageSeconds} /> The driver is slow, or
          the file system is.
        </p>
      </Notice>
    );
  }
  if (health.kind === "lost") {
    const driver = status.host === "" ? "" : ` (process ${status.pid} on ${status.host})`;
    return (
      <Notice tone="bad" title="Driver lost?">
        <p>
          <LastNews at={status.updated_at} ageSeconds={health.ageSeconds} /> The driver{driver}{" "}
          writes every few seconds while it lives: it may have been killed, or its allocation may
          have ended. What follows is the last that it wrote.
        </p>
      </Notice>
    );
  }
  return null;
}

/** The age counts up; it is hidden from screen readers, which would read it out every second. */
function LastNews({ at, ageSeconds }: { at: string | null; ageSeconds: number }) {
  return (
    <>
      The last news is from {formatInstant(at ?? "")}
      <span aria-hidden="true">, {formatDuration(ageSeconds)} ago</span>.
    </>
  );
}
