/** What a chore printed: its end as it grows, and any other part of however long a file. */
import { useCallback, useEffect, useId, useRef, useState, useSyncExternalStore } from "react";

import type { LogPlace } from "../../api/log";
import { downloadUrl } from "../../api/useChore";
import { formatBytes, formatCount, formatQuantity } from "../../lib/format";
import { endOf, findRow, startOf, type LogWindow } from "../../lib/logWindow";
import { useShortcut } from "../../shell/shortcuts";
import { ErrorNotice } from "../ErrorNotice";
import { LogReader, type LogSnapshot } from "./logReader";
import { LogRows, type Target } from "./LogRows";
import { MAX_MATCHES, useLogSearch, type LogSearch } from "./useLogSearch";
import "./LogView.css";

interface LogViewProps extends LogPlace {
  /** Whether nothing more will be printed. */
  isOver: boolean;
  /** Whether it ran on a warm worker, which keeps a file only where something was printed. */
  isPooled: boolean;
}

/** One log; another one is another component, by its key. */
export function LogView({ isOver, isPooled, ...place }: LogViewProps) {
  const [reader] = useState(() => new LogReader(place, isOver));
  const snapshot = useSyncExternalStore(reader.subscribe, reader.read);
  useEffect(() => {
    reader.setOver(isOver);
  }, [reader, isOver]);
  const [isWrapped, setIsWrapped] = useState(true);
  const [target, setTarget] = useState<Target | null>(null);
  const follow = useCallback(
    (isFollowing: boolean) => {
      reader.follow(isFollowing);
    },
    [reader],
  );
  /** Go to the row of a byte, once that is there. */
  const goTo = (offset: number, text: string, isFound: boolean) => {
    follow(false);
    void reader.seek(offset).then(() => {
      const { window } = reader.read();
      if (window !== null) {
        const rowNumber = window.firstNumber + findRow(window, offset, text);
        setTarget({ origin: window.origin, rowNumber, isFound });
      }
    });
  };
  const search = useLogSearch(place, (offset, text) => {
    goTo(offset, text, true);
  });
  const toBeginning = () => {
    goTo(0, "", false);
  };
  const toEnd = () => {
    void reader.toEnd().then(() => {
      const { window } = reader.read();
      if (window !== null) {
        const rowNumber = window.firstNumber + window.rows.length - 1;
        setTarget({ origin: window.origin, rowNumber, isFound: false });
      }
    });
  };
  useShortcut("g", "Beginning of the log", toBeginning);
  useShortcut("Shift+G", "End of the log", toEnd);
  const { window, isMissing, error } = snapshot;
  return (
    <section className="log" aria-label={place.stream}>
      <div className="log-tools">
        <SearchTool
          search={search}
          onClear={() => {
            setTarget(null);
          }}
        />
        <label>
          <input
            type="checkbox"
            checked={isWrapped}
            onChange={(event) => {
              setIsWrapped(event.target.checked);
            }}
          />{" "}
          Wrap
        </label>
        <button type="button" title="Beginning of the log (g)" onClick={toBeginning}>
          Beginning
        </button>
        <button type="button" title="End of the log (G)" onClick={toEnd}>
          End
        </button>
        {window !== null && (
          <a
            href={downloadUrl(place.runId, place.choreId, place.attempt, {
              name: place.stream,
              is_output: false,
            })}
            download
          >
            Download {formatBytes(window.size)}
          </a>
        )}
      </div>
      {error !== null && <ErrorNotice error={error} hasData={window !== null} />}
      {window === null ? (
        <Nothing snapshot={snapshot} isOver={isOver} isPooled={isPooled} />
      ) : window.size === 0 ? (
        <p className="log-nothing">Nothing was printed{isOver ? "" : " yet"}.</p>
      ) : (
        <LogRows
          window={window}
          label={place.stream}
          isWrapped={isWrapped}
          sought={search.found?.text ?? ""}
          target={target}
          onFollow={follow}
          onEarlier={() => {
            reader.loadEarlier();
          }}
          onLater={() => {
            reader.loadLater();
          }}
          onToEnd={toEnd}
        />
      )}
      {window !== null && <Extent window={window} isMissing={isMissing} isOver={isOver} />}
    </section>
  );
}

interface NothingProps {
  snapshot: LogSnapshot;
  isOver: boolean;
  isPooled: boolean;
}

function Nothing({ snapshot, isOver, isPooled }: NothingProps) {
  if (snapshot.isMissing) {
    const over = isPooled ? "Nothing was printed." : "There is no such file.";
    return (
      <p className="log-nothing">{isOver ? over : "Nothing was printed yet."}</p>
    );
  }
  return snapshot.error === null ? <p className="log-nothing">Reading…</p> : null;
}

/** Which part of the file is at hand. */
function Extent({ window, isMissing, isOver }: { window: LogWindow; isMissing: boolean; isOver: boolean }) {
  const isWhole = startOf(window) === 0 && window.isAtEnd;
  return (
    <p className="log-extent">
      {isMissing && "The file is gone; this is the last that was seen. "}
      {isWhole
        ? `All ${formatBytes(window.size)}, ${formatQuantity(window.rows.length, "line")}`
        : `${formatBytes(startOf(window))} – ${formatBytes(endOf(window))} of ${formatBytes(window.size)}`}
      {!isOver && ", still being written"}
    </p>
  );
}

function SearchTool({ search, onClear }: { search: LogSearch; onClear: () => void }) {
  const { found, isSearching, error } = search;
  const [text, setText] = useState("");
  const field = useRef<HTMLInputElement>(null);
  const id = useId();
  useShortcut("/", "Search the log", () => field.current?.focus());
  const go = (step: 1 | -1) => {
    if (text !== "") {
      search.go(text, step);
    }
  };
  useShortcut("n", "Next match", () => {
    go(1);
  });
  useShortcut("Shift+N", "Match before", () => {
    go(-1);
  });
  return (
    <div role="search" className="log-search">
      <input
        ref={field}
        type="search"
        aria-label="Search the log"
        aria-describedby={id}
        placeholder="Search  ( / )"
        maxLength={256}
        value={text}
        onChange={(event) => {
          setText(event.target.value);
          if (event.target.value === "") {
            search.clear();
            onClear();
          }
        }}
        onKeyDown={(event) => {
          if (event.key === "Enter") {
            go(event.shiftKey ? -1 : 1);
          } else if (event.key === "Escape") {
            event.preventDefault();
            setText("");
            search.clear();
            onClear();
            event.currentTarget.blur();
          }
        }}
      />
      <button type="button" aria-label="Match before" title="Match before (N)" disabled={text === ""} onClick={() => { go(-1); }}>
        ↑
      </button>
      <button type="button" aria-label="Next match" title="Next match (n)" disabled={text === ""} onClick={() => { go(1); }}>
        ↓
      </button>
      <span id={id} className="of" role="status">
        {error !== null ? error.message : describe(found, isSearching, text)}
      </span>
    </div>
  );
}

function describe(found: LogSearch["found"], isSearching: boolean, text: string): string {
  if (found?.text !== text) {
    return "";
  }
  const { offsets, nextOffset, index } = found;
  if (isSearching) {
    return `searching, ${formatBytes(nextOffset ?? 0)} so far…`;
  }
  if (offsets.length === 0) {
    return "no match";
  }
  const more = nextOffset !== null || offsets.length >= MAX_MATCHES ? "+" : "";
  return `${formatCount(index + 1)} of ${formatCount(offsets.length)}${more}`;
}
