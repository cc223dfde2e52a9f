import type { Run } from "../api/client";
import { serverNow } from "../api/serverClock";
import { formatDuration, formatInstant } from "../lib/format";
import { isLate } from "../lib/health";
import { useNow } from "../lib/useNow";
import { Notice } from "./Notice";
import { RunAdvice } from "./RunAdvice";

/** Says so when a run stands still, and what to do about it; nothing while all is well. */
export function HealthNotice({ run }: { run: Run }) {
  const { health, status } = run;
  useNow(health === "alive");
  switch (health) {
    case "lost":
      return (
        <Notice tone="bad" title="Driver lost">
          <p>
            {asSentence(run.problem)} It may have been killed, or its allocation may have ended.
            What follows is the last that it wrote. <LastSign at={run.last_sign_at} />
          </p>
          <RunAdvice run={run} />
        </Notice>
      );
    case "coming":
      return (
        <Notice tone="caution" title="A new driver takes over">
          <p>It has published nothing yet; what follows is from the one before.</p>
        </Notice>
      );
    case "waiting":
      return (
        <Notice tone="quiet" title="Not started yet">
          <RunAdvice run={run} />
        </Notice>
      );
    case "unreadable":
      return (
        <Notice tone="bad" title="The run cannot be read">
          <p>{run.problem}</p>
        </Notice>
      );
    case "ended":
      return status?.state === "interrupted" ? (
        <Notice tone="caution" title="Interrupted">
          <RunAdvice run={run} />
          <p>
            <LastSign at={run.last_sign_at} />
          </p>
        </Notice>
      ) : null;
    default:
      return status != null && isLate(status, serverNow()) ? (
        <Notice tone="caution" title="No news from the driver">
          <p>
            The driver is slow, or the file system is. <LastSign at={status.updated_at} />
          </p>
        </Notice>
      ) : null;
  }
}

/** The age counts up; it is hidden from screen readers, which would read it out every second. */
function LastSign({ at }: { at: string | null }) {
  return at === null ? null : (
    <>
      Last sign of life: {formatInstant(at)}
      <span aria-hidden="true">, {formatDuration((serverNow() - Date.parse(at)) / 1000)} ago</span>.
    </>
  );
}

function asSentence(text: string): string {
  return text === "" ? "" : `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
