import { useEffect, useMemo, useRef, useState } from "react";

import { arrange, type Arrangement } from "./arrange";
import { shapeOf, type Flow } from "./flowItem";

interface Arranged {
  /** The drawing that was arranged last; numbers in it may be older than those that are shown. */
  flow: Flow | null;
  arrangement: Arrangement | null;
  /** Whether a newer one is on its way. */
  isArranging: boolean;
  error: Error | null;
}

interface Done {
  shape: string;
  arrangement: Arrangement | null;
  error: Error | null;
}

/** Arrange a drawing anew whenever its shape changes; where only numbers do, nothing moves. */
export function useArrangement(flow: Flow): Arranged {
  const shape = useMemo(() => shapeOf(flow), [flow]);
  const [done, setDone] = useState<Done | null>(null);
  const [arrangedFlow, setArrangedFlow] = useState<Flow | null>(null);
  /** The shape that was asked for last; numbers may change while it is arranged. */
  const wanted = useRef<string>(null);
  const isCurrent = done?.shape === shape;
  if (isCurrent && arrangedFlow !== flow) {
    setArrangedFlow(flow);
  }
  useEffect(() => {
    if (wanted.current === shape) {
      return;
    }
    wanted.current = shape;
    const finish = (arrangement: Arrangement | null, error: Error | null) => {
      if (wanted.current === shape) {
        setDone({ shape, arrangement, error });
      }
    };
    arrange(flow.items, flow.edges).then(
      (arrangement) => {
        finish(arrangement, null);
      },
      (error: unknown) => {
        finish(null, error instanceof Error ? error : new Error(String(error)));
      },
    );
  }, [flow, shape]);
  return {
    flow: isCurrent ? flow : arrangedFlow,
    arrangement: done?.arrangement ?? null,
    isArranging: !isCurrent,
    error: isCurrent ? done.error : null,
  };
}
