import { fireEvent, render, screen } from "@testing-library/react";
import { useState } from "react";
import { beforeEach, expect, it, vi } from "vitest";

import { useGestures } from "../lib/gestures";

const seen = {
  move: vi.fn<(dx: number, dy: number) => void>(),
  zoom: vi.fn<(factor: number, around: { x: number; y: number } | null) => void>(),
  fit: vi.fn<() => void>(),
  point: vi.fn(),
  click: vi.fn(),
  mark: vi.fn(),
};

function Area({ isWheelTaken }: { isWheelTaken: boolean }) {
  const [area, setArea] = useState<HTMLDivElement | null>(null);
  useGestures(area, { ...seen, isWheelTaken });
  return (
    <div ref={setArea} role="region" aria-label="area" tabIndex={0}>
      <button type="button">inside</button>
    </div>
  );
}

function show(isWheelTaken = true): HTMLElement {
  render(<Area isWheelTaken={isWheelTaken} />);
  const area = screen.getByRole("region");
  area.setPointerCapture = vi.fn();
  return area;
}

function pointer(area: HTMLElement, type: string, at: [number, number], more: PointerEventInit = {}): void {
  fireEvent(
    area,
    new PointerEvent(type, { bubbles: true, clientX: at[0], clientY: at[1], button: 0, pointerId: 1, ...more }),
  );
}

beforeEach(() => {
  vi.clearAllMocks();
});

it("moves by as much as the pointer is dragged, and takes that for no click", () => {
  const area = show();
  pointer(area, "pointerdown", [10, 10]);
  pointer(area, "pointermove", [30, 15]);
  pointer(area, "pointermove", [35, 25]);
  pointer(area, "pointerup", [35, 25]);
  expect(seen.move.mock.calls).toEqual([
    [20, 5],
    [5, 10],
  ]);
  expect(seen.click).not.toHaveBeenCalled();
});

it("takes a press that trembles for a click", () => {
  const area = show();
  pointer(area, "pointerdown", [10, 10]);
  pointer(area, "pointermove", [11, 12]);
  pointer(area, "pointerup", [11, 12]);
  expect(seen.click).toHaveBeenCalledExactlyOnceWith({ x: 11, y: 12 });
  expect(seen.move).not.toHaveBeenCalled();
});

it("marks a stretch with Shift", () => {
  const area = show();
  pointer(area, "pointerdown", [10, 10], { shiftKey: true });
  pointer(area, "pointermove", [60, 10]);
  pointer(area, "pointerup", [80, 10]);
  expect(seen.mark.mock.calls).toEqual([
    [{ x: 10, y: 10 }, { x: 60, y: 10 }, false],
    [{ x: 10, y: 10 }, { x: 80, y: 10 }, true],
  ]);
  expect(seen.move).not.toHaveBeenCalled();
});

it("zooms by two fingers around their middle", () => {
  const area = show();
  pointer(area, "pointerdown", [100, 100], { pointerId: 1 });
  pointer(area, "pointerdown", [200, 100], { pointerId: 2 });
  pointer(area, "pointermove", [300, 100], { pointerId: 2 });
  expect(seen.zoom).toHaveBeenCalledExactlyOnceWith(2, { x: 200, y: 100 });
});

it("zooms by the wheel, and keeps the page from scrolling", () => {
  const area = show();
  expect(fireEvent.wheel(area, { deltaY: -100, clientX: 5, clientY: 6 })).toBe(false);
  expect(seen.zoom.mock.calls[0]?.[0]).toBeGreaterThan(1);
  expect(seen.zoom.mock.calls[0]?.[1]).toEqual({ x: 5, y: 6 });
});

it("leaves the wheel to the page where that is longer, but for Ctrl and sideways", () => {
  const area = show(false);
  expect(fireEvent.wheel(area, { deltaY: 100 })).toBe(true);
  expect(seen.zoom).not.toHaveBeenCalled();
  fireEvent.wheel(area, { deltaY: 100, ctrlKey: true });
  expect(seen.zoom.mock.calls[0]?.[0]).toBeLessThan(1);
  fireEvent.wheel(area, { deltaX: 40 });
  expect(seen.move).toHaveBeenCalledExactlyOnceWith(-40, 0);
});

it("does all of it by keys", () => {
  const area = show();
  Object.defineProperties(area, { clientWidth: { value: 800 }, clientHeight: { value: 400 } });
  for (const key of ["ArrowLeft", "ArrowDown", "+", "-", "0"]) {
    expect(fireEvent.keyDown(area, { key })).toBe(false);
  }
  expect(seen.move.mock.calls).toEqual([
    [100, 0],
    [0, -50],
  ]);
  expect(seen.zoom.mock.calls.map(([factor, around]) => [factor > 1, around])).toEqual([
    [true, null],
    [false, null],
  ]);
  expect(seen.fit).toHaveBeenCalledOnce();
});

it("leaves other keys, and those of what is inside, alone", () => {
  const area = show();
  expect(fireEvent.keyDown(area, { key: "a" })).toBe(true);
  expect(fireEvent.keyDown(screen.getByRole("button"), { key: "+" })).toBe(true);
  expect(fireEvent.keyDown(area, { key: "+", ctrlKey: true })).toBe(true);
  expect(seen.zoom).not.toHaveBeenCalled();
});
