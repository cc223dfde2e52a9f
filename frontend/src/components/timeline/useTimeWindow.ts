/** The window of time in the address, and the one on the screen while it is moved. */
import { useEffect, useRef, useState } from "react";
import { useSearchParams } from "react-router";

import { readWindow, writeWindow, type TimeWindow } from "./timeWindow";

/** A window that stands still for so long is put into the address, and asked for. */
const SETTLE_MILLISECONDS = 200;

interface ChosenWindow {
  /** What is asked for; null for the whole run. */
  asked: TimeWindow | null;
  /** What is to be seen; null for the whole run. */
  seen: TimeWindow | null;
  /** Show a window, and ask for it a moment later; null for the whole run. */
  show: (window: TimeWindow | null) => void;
}

export function useTimeWindow(): ChosenWindow {
  const [parameters, setParameters] = useSearchParams();
  const [moving, setMoving] = useState<{ window: TimeWindow | null } | null>(null);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(
    () => () => {
      clearTimeout(timer.current);
    },
    [],
  );
  const asked = readWindow(parameters);
  const show = (window: TimeWindow | null) => {
    setMoving({ window });
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      setParameters((before) => writeWindow(before, window), { replace: true });
      setMoving(null);
    }, SETTLE_MILLISECONDS);
  };
  return { asked, seen: moving === null ? asked : moving.window, show };
}
