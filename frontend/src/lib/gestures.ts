/** Moving and zooming a drawing: by pointer, by two fingers, by wheel and by keys. */
import { useEffect, useRef } from "react";

/** In pixels from the upper left corner of the element. */
export interface Point {
  x: number;
  y: number;
}

interface Gestures {
  /** The drawing is to move by so many pixels. */
  move: (dx: number, dy: number) => void;
  /** It is to grow around a point; the middle where none is meant. */
  zoom: (factor: number, around: Point | null) => void;
  /** All of it is to be seen. */
  fit: () => void;
  /** The pointer stands here; null when it has left or does something else. */
  point: (at: Point | null) => void;
  click: (at: Point) => void;
  /** A stretch was marked with Shift held; `isDone` when the pointer is let go. */
  mark?: (from: Point, to: Point, isDone: boolean) => void;
  /** Whether the wheel zooms by itself, or only with Ctrl, so that the page can be scrolled. */
  isWheelTaken: boolean;
}

/** How far a pointer may tremble in a click. */
const CLICK_PIXELS = 4;
const KEY_STEP = 0.125;
const KEY_FACTOR = 1.5;
const ARROWS: Readonly<Record<string, readonly [number, number]>> = {
  ArrowLeft: [1, 0],
  ArrowRight: [-1, 0],
  ArrowUp: [0, 1],
  ArrowDown: [0, -1],
};

/** Listen to an element while it is on the screen. */
export function useGestures(element: HTMLElement | null, gestures: Gestures): void {
  const latest = useRef(gestures);
  useEffect(() => {
    latest.current = gestures;
  });
  useEffect(() => {
    if (element === null) {
      return;
    }
    const hand = new Hand(element, () => latest.current);
    return () => {
      hand.release();
    };
  }, [element]);
}

class Hand {
  private readonly listening = new AbortController();
  private readonly pointers = new Map<number, Point>();
  private pressedAt: Point | null = null;
  private isMarking = false;

  constructor(
    private readonly element: HTMLElement,
    private readonly gestures: () => Gestures,
  ) {
    const { signal } = this.listening;
    element.addEventListener("pointerdown", this.press, { signal });
    element.addEventListener("pointermove", this.drag, { signal });
    element.addEventListener("pointerup", this.lift, { signal });
    element.addEventListener("pointercancel", this.abandon, { signal });
    element.addEventListener("pointerleave", this.leave, { signal });
    element.addEventListener("keydown", this.type, { signal });
    // React's own listener cannot keep the page from scrolling.
    element.addEventListener("wheel", this.roll, { signal, passive: false });
  }

  release(): void {
    this.listening.abort();
  }

  private readonly press = (event: PointerEvent): void => {
    if (event.button !== 0) {
      return;
    }
    const at = this.pointOf(event);
    this.pointers.set(event.pointerId, at);
    this.pressedAt = this.pointers.size === 1 ? at : null;
    this.isMarking = event.shiftKey && this.gestures().mark !== undefined;
  };

  private readonly drag = (event: PointerEvent): void => {
    const at = this.pointOf(event);
    const before = this.pointers.get(event.pointerId);
    if (before === undefined) {
      this.gestures().point(at);
      return;
    }
    if (this.pressedAt !== null) {
      if (distanceOf(this.pressedAt, at) < CLICK_PIXELS) {
        return;
      }
      // Taken only now: a click on the element must stay one.
      this.element.setPointerCapture(event.pointerId);
      this.gestures().point(null);
    }
    if (this.isMarking && this.pressedAt !== null) {
      this.gestures().mark?.(this.pressedAt, at, false);
      return;
    }
    this.pressedAt = null;
    this.moveFinger(event.pointerId, before, at);
  };

  private moveFinger(id: number, before: Point, at: Point): void {
    const other = [...this.pointers].find(([key]) => key !== id)?.[1];
    this.pointers.set(id, at);
    if (other === undefined) {
      this.gestures().move(at.x - before.x, at.y - before.y);
      return;
    }
    const factor = distanceOf(at, other) / Math.max(1, distanceOf(before, other));
    this.gestures().move((at.x - before.x) / 2, (at.y - before.y) / 2);
    this.gestures().zoom(factor, { x: (at.x + other.x) / 2, y: (at.y + other.y) / 2 });
  }

  private readonly lift = (event: PointerEvent): void => {
    const at = this.pointOf(event);
    const { pressedAt } = this;
    this.abandon(event);
    if (pressedAt === null) {
      return;
    }
    if (distanceOf(pressedAt, at) < CLICK_PIXELS) {
      this.gestures().click(at);
    } else {
      this.gestures().mark?.(pressedAt, at, true);
    }
  };

  private readonly abandon = (event: PointerEvent): void => {
    this.pointers.delete(event.pointerId);
    this.pressedAt = null;
  };

  private readonly leave = (): void => {
    this.gestures().point(null);
  };

  private readonly roll = (event: WheelEvent): void => {
    const { isWheelTaken, move, zoom } = this.gestures();
    const isSideways = Math.abs(event.deltaX) > Math.abs(event.deltaY);
    if (event.ctrlKey || event.metaKey || (isWheelTaken && !event.shiftKey && !isSideways)) {
      event.preventDefault();
      zoom(Math.exp(-pixelsOf(event, event.deltaY) * 0.002), this.pointOf(event));
    } else if (isSideways || event.shiftKey) {
      event.preventDefault();
      move(-pixelsOf(event, isSideways ? event.deltaX : event.deltaY), 0);
    }
  };

  private readonly type = (event: KeyboardEvent): void => {
    if (event.target !== this.element || event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    const { move, zoom, fit } = this.gestures();
    const arrow = ARROWS[event.key];
    if (arrow !== undefined) {
      const { clientWidth, clientHeight } = this.element;
      move(arrow[0] * clientWidth * KEY_STEP, arrow[1] * clientHeight * KEY_STEP);
    } else if (event.key === "+" || event.key === "=") {
      zoom(KEY_FACTOR, null);
    } else if (event.key === "-") {
      zoom(1 / KEY_FACTOR, null);
    } else if (event.key === "0") {
      fit();
    } else {
      return;
    }
    event.preventDefault();
  };

  private pointOf(event: MouseEvent): Point {
    const box = this.element.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }
}

/** Firefox counts the wheel in lines. */
function pixelsOf(event: WheelEvent, delta: number): number {
  return event.deltaMode === WheelEvent.DOM_DELTA_LINE ? delta * 20 : delta;
}

function distanceOf(a: Point, b: Point): number {
  return Math.hypot(a.x - b.x, a.y - b.y);
}
