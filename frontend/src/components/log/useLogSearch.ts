/** Looks for a text in a whole log, and goes from one place to the next. */
import { useEffect, useRef, useState } from "react";

import { isAborted, searchLog, type LogPlace } from "../../api/log";

/** Places that are asked for at a time. */
const MATCHES = 500;
/** Places that are kept; whoever has more looks for more letters. */
export const MAX_MATCHES = 10_000;

interface Found {
  text: string;
  /** Bytes before each. */
  offsets: readonly number[];
  /** Where to look on; null where the end was reached. */
  nextOffset: number | null;
  /** The place that was gone to last. */
  index: number;
}

export interface LogSearch {
  found: Found | null;
  isSearching: boolean;
  error: Error | null;
  /** Go to the first place of a text, or to the one behind or before where it is the same text. */
  go: (text: string, step: 1 | -1) => void;
  clear: () => void;
}

/** @param goTo is told of each place that is gone to */
export function useLogSearch(place: LogPlace, goTo: (offset: number, text: string) => void): LogSearch {
  const [found, setFound] = useState<Found | null>(null);
  const [isSearching, setIsSearching] = useState(false);
  const [error, setError] = useState<Error | null>(null);
  const asking = useRef<AbortController>(null);
  useEffect(() => () => asking.current?.abort(), []);

  const visit = (next: Found) => {
    setFound(next);
    const offset = next.offsets[next.index];
    if (offset !== undefined) {
      goTo(offset, next.text);
    }
  };

  /** Look on until there is one place more than before, or none. */
  const searchOn = async (from: Found, signal: AbortSignal) => {
    let { offsets, nextOffset } = from;
    const num = offsets.length;
    while (nextOffset !== null && offsets.length === num) {
      const answer = await searchLog(place, from.text, nextOffset, MATCHES, signal);
      offsets = [...offsets, ...answer.offsets];
      nextOffset = answer.next_offset;
      setFound({ ...from, offsets, nextOffset });
    }
    return { ...from, offsets, nextOffset };
  };

  const go = (text: string, step: 1 | -1) => {
    const known = found?.text === text ? found : { text, offsets: [], nextOffset: 0, index: -1 };
    const index = known.index + step;
    if (index >= 0 && index < known.offsets.length) {
      visit({ ...known, index });
      return;
    }
    if (step < 0 || known.nextOffset === null || known.offsets.length >= MAX_MATCHES) {
      // Round to the other end of what is known.
      visit({ ...known, index: step < 0 ? known.offsets.length - 1 : 0 });
      return;
    }
    asking.current?.abort();
    const controller = new AbortController();
    asking.current = controller;
    setIsSearching(true);
    setError(null);
    searchOn(known, controller.signal)
      .then((next) => {
        visit({ ...next, index: Math.min(index, next.offsets.length - 1) });
        setIsSearching(false);
      })
      .catch((problem: unknown) => {
        if (!isAborted(problem)) {
          setIsSearching(false);
          setError(problem instanceof Error ? problem : new Error(String(problem)));
        }
      });
  };

  const clear = () => {
    asking.current?.abort();
    setFound(null);
    setIsSearching(false);
    setError(null);
  };

  return { found, isSearching, error, go, clear };
}
