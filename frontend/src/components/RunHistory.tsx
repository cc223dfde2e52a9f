import { useHistory } from "../api/useHistory";
import { formatInstantOf, formatQuantity } from "../lib/format";
import { ErrorNotice } from "./ErrorNotice";

/** How the text of some kinds begins; that of the others says it all. */
const WORDS: Readonly<Record<string, string>> = {
  opened: "Started",
  taken_over: "Taken over",
  closed: "Ended:",
  workers: "Workers:",
};

/** What happened to the run as a whole, newest first. */
export function RunHistory({ runId }: { runId: string }) {
  const { data, error, hasNextPage, isFetchingNextPage, fetchNextPage } = useHistory(runId);
  if (data === undefined) {
    return error === null ? null : <ErrorNotice error={error} />;
  }
  const events = data.pages.flatMap((page) => page.events);
  const total = data.pages[0]?.total ?? 0;
  return events.length === 0 ? null : (
    <section>
      <h2>History of the run</h2>
      <ol className="history" reversed>
        {events.map(({ number, at, kind, text }) => (
          <li key={number} value={number}>
            <time dateTime={new Date(at * 1000).toISOString()}>{formatInstantOf(at)}</time>
            <span>
              {kind in WORDS && <strong>{WORDS[kind]} </strong>}
              {text}
            </span>
          </li>
        ))}
      </ol>
      {hasNextPage && (
        <p className="more">
          <button type="button" disabled={isFetchingNextPage} onClick={() => void fetchNextPage()}>
            Show earlier
          </button>{" "}
          {formatQuantity(total - events.length, "more event")}
        </p>
      )}
    </section>
  );
}
