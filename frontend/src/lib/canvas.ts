/** What canvases have in common: their size in the page, sharp pixels, and colours. */
import { useEffect, useState } from "react";

import type { ChoreState } from "../api/client";
import { colourOf } from "../shell/theme";
import { CHORE_STATES, presentChoreState } from "./choreState";

export interface Size {
  width: number;
  height: number;
}

/** Colours of a theme, as a canvas takes them. */
export interface Palette {
  ground: string;
  line: string;
  ink: string;
  inkSoft: string;
  accent: string;
  states: Readonly<Record<ChoreState, string>>;
}

const palettes = new Map<boolean, Palette>();

/** Return the colours of the theme that is on the page, which `isDark` tells. */
export function paletteOf(isDark: boolean): Palette {
  const known = palettes.get(isDark);
  if (known !== undefined) {
    return known;
  }
  const states = CHORE_STATES.map((state) => [state, colourOf(`--${presentChoreState(state).fill}`)]);
  const palette = {
    ground: colourOf("--surface"),
    line: colourOf("--line"),
    ink: colourOf("--ink"),
    inkSoft: colourOf("--ink-soft"),
    accent: colourOf("--accent"),
    states: Object.fromEntries(states) as Record<ChoreState, string>,
  };
  palettes.set(isDark, palette);
  return palette;
}

/** The size of an element in the page, while it changes. */
export function useSize(element: HTMLElement | null): Size {
  const [size, setSize] = useState<Size>({ width: 0, height: 0 });
  useEffect(() => {
    if (element === null) {
      return;
    }
    const observer = new ResizeObserver(() => {
      setSize({ width: element.clientWidth, height: element.clientHeight });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
    };
  }, [element]);
  return size;
}

/** Give a canvas as many pixels as the screen has for it; return a pencil in units of the page. */
export function clearCanvas(canvas: HTMLCanvasElement, { width, height }: Size): CanvasRenderingContext2D {
  const ratio = window.devicePixelRatio || 1;
  const [columns, rows] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== columns || canvas.height !== rows) {
    canvas.width = columns;
    canvas.height = rows;
  }
  const pencil = canvas.getContext("2d");
  if (pencil === null) {
    throw new Error("this browser draws no canvas");
  }
  pencil.setTransform(ratio, 0, 0, ratio, 0, 0);
  pencil.clearRect(0, 0, width, height);
  return pencil;
}

/** The sign of a failure around a point, which says without colour what has failed. */
export function paintCross(pencil: CanvasRenderingContext2D, colour: string, x: number, y: number, arm: number): void {
  pencil.strokeStyle = colour;
  pencil.lineWidth = 1.5;
  pencil.beginPath();
  pencil.moveTo(x - arm, y - arm);
  pencil.lineTo(x + arm, y + arm);
  pencil.moveTo(x + arm, y - arm);
  pencil.lineTo(x - arm, y + arm);
  pencil.stroke();
}
