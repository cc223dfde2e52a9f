/** The rows of a log in a window that keeps its place while rows come and go at either end. */
import { useVirtualizer } from "@tanstack/react-virtual";
import { memo, useCallback, useLayoutEffect, useRef, useState, type ReactNode } from "react";

import { parseAnsi } from "../../lib/ansi";
import { formatQuantity } from "../../lib/format";
import { startOf, type LogRow, type LogWindow } from "../../lib/logWindow";
import "../AnsiText.css";

/** Height of a line in pixels, as in `LogView.css`. */
const LINE_PIXELS = 19;
/** How near to an end the next piece is asked for. */
const NEAR_PIXELS = 600;
/** How near to the end a reader counts as being at it. */
const AT_END_PIXELS = 2 * LINE_PIXELS;
const OVERSCAN = 20;

/** Where to go; another object goes there again. */
export interface Target {
  origin: symbol;
  rowNumber: number;
  /** Whether it was searched for. */
  isFound: boolean;
}

interface LogRowsProps {
  window: LogWindow;
  label: string;
  isWrapped: boolean;
  /** Marked wherever it stands; empty for none. */
  sought: string;
  target: Target | null;
  onFollow: (isFollowing: boolean) => void;
  onEarlier: () => void;
  onLater: () => void;
  onToEnd: () => void;
}

export function LogRows(props: LogRowsProps) {
  const { window, label, isWrapped, sought, target, onEarlier, onLater, onToEnd } = props;
  const { rows, firstNumber, origin } = window;
  const region = useRef<HTMLDivElement>(null);
  // eslint-disable-next-line react-hooks/incompatible-library -- its functions are not memoised here
  const virtualizer = useVirtualizer({
    count: rows.length,
    getScrollElement: () => region.current,
    estimateSize: () => LINE_PIXELS,
    getItemKey: useCallback((index: number) => firstNumber + index, [firstNumber]),
    overscan: OVERSCAN,
    // Until the window is measured.
    initialRect: { width: 1200, height: 30 * LINE_PIXELS },
  });
  const height = virtualizer.getTotalSize();
  const items = virtualizer.getVirtualItems();
  const { isFollowing, numNew, look } = useFollowing(window, props.onFollow);

  // What the reader looks at stays where it is when rows come or go above it.
  const top = useRef({ origin, number: 0, shift: 0 });
  useLayoutEffect(() => {
    const { number, shift } = top.current;
    const start = virtualizer.measurementsCache[number - firstNumber]?.start;
    if (top.current.origin === origin && start !== undefined && region.current !== null) {
      region.current.scrollTop = start + shift;
    }
  }, [virtualizer, firstNumber, origin]);
  useLayoutEffect(() => {
    virtualizer.measure();
  }, [virtualizer, isWrapped, origin]);
  useLayoutEffect(() => {
    if (target !== null && target.origin === origin) {
      virtualizer.scrollToIndex(target.rowNumber - firstNumber, { align: "center" });
    }
    // eslint-disable-next-line react-hooks/exhaustive-deps -- goes there once, not with each new row
  }, [virtualizer, target, origin]);

  useLayoutEffect(() => {
    if (isFollowing && region.current !== null) {
      region.current.scrollTop = region.current.scrollHeight;
    }
  }, [isFollowing, height, window]);
  const onScroll = (event: React.UIEvent) => {
    const { scrollTop, scrollHeight, clientHeight } = event.currentTarget;
    const item = virtualizer.getVirtualItemForOffset(scrollTop);
    if (item !== undefined) {
      top.current = { origin, number: firstNumber + item.index, shift: scrollTop - item.start };
    }
    look(event.currentTarget);
    if (scrollTop < NEAR_PIXELS && startOf(window) > 0) {
      onEarlier();
    }
    if (scrollHeight - scrollTop - clientHeight < NEAR_PIXELS && !window.isAtEnd) {
      onLater();
    }
  };
  const found = target?.isFound === true && target.origin === origin ? target.rowNumber : null;
  return (
    <div className="log-frame">
      <div
        className={isWrapped ? "log-window is-wrapped" : "log-window"}
        role="region"
        aria-label={`Lines of ${label}`}
        tabIndex={0}
        ref={region}
        onScroll={onScroll}
      >
        {startOf(window) > 0 && (
          <button type="button" className="log-more" onClick={onEarlier}>
            Load earlier
          </button>
        )}
        <div style={{ height }}>
          <div className="log-seen" style={{ transform: `translateY(${items[0]?.start ?? 0}px)` }}>
            {items.map(({ index, key }) => {
              const row = rows[index];
              return row === undefined ? null : (
                <div
                  key={key}
                  data-index={index}
                  ref={virtualizer.measureElement}
                  className={rowClass(row, firstNumber + index === found)}
                >
                  <RowText row={row} sought={sought} />
                </div>
              );
            })}
          </div>
        </div>
        {!window.isAtEnd && (
          <button type="button" className="log-more" onClick={onLater}>
            Load later
          </button>
        )}
      </div>
      {!isFollowing && numNew > 0 && (
        <button type="button" className="log-new" onClick={onToEnd}>
          {formatQuantity(numNew, "new line")} ↓
        </button>
      )}
    </div>
  );
}

/** Stay at the end while the reader is there, and count what comes while not. */
function useFollowing(window: LogWindow, onFollow: (isFollowing: boolean) => void) {
  const lastNumber = window.firstNumber + window.rows.length;
  const [leftAt, setLeftAt] = useState<{ origin: symbol; number: number } | null>(null);
  const lastTop = useRef(0);
  const isFollowing = leftAt === null;
  const look = ({ scrollTop, scrollHeight, clientHeight }: Element) => {
    const isAtEnd = window.isAtEnd && scrollHeight - scrollTop - clientHeight <= AT_END_PIXELS;
    // Rows that turn out taller move the end away; only who scrolls up has left it.
    if (isAtEnd && !isFollowing) {
      setLeftAt(null);
      onFollow(true);
    } else if (!isAtEnd && isFollowing && scrollTop < lastTop.current) {
      setLeftAt({ origin: window.origin, number: lastNumber });
      onFollow(false);
    }
    lastTop.current = scrollTop;
  };
  const numNew = leftAt?.origin === window.origin ? lastNumber - leftAt.number : 0;
  return { isFollowing, numNew, look };
}

function rowClass({ isContinued }: LogRow, isFound: boolean): string {
  return ["log-row", isContinued && "is-continued", isFound && "is-found"]
    .filter((name) => name !== false)
    .join(" ");
}

/** Text nodes and classes only: a log is never markup. */
const RowText = memo(function RowText({ row, sought }: { row: LogRow; sought: string }) {
  return parseAnsi(row.text, row.style).spans.map(({ text, classes }, index) => (
    <span key={index} className={classes === "" ? undefined : classes}>
      {sought === "" ? text : marked(text, sought)}
    </span>
  ));
});

function marked(text: string, sought: string): ReactNode {
  const parts: ReactNode[] = [];
  const haystack = text.toLowerCase();
  const needle = sought.toLowerCase();
  let from = 0;
  for (let at = haystack.indexOf(needle); at >= 0; at = haystack.indexOf(needle, from)) {
    parts.push(text.slice(from, at), <mark key={at}>{text.slice(at, at + needle.length)}</mark>);
    from = at + needle.length;
  }
  return [...parts, text.slice(from)];
}
