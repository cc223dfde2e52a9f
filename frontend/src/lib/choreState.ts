/** What the states of a chore are called, and how they look. Never told by colour alone. */
import type { ChoreState } from "../api/client";
import type { Tone } from "./runState";

interface Presentation {
  /** In lower case, as in a sentence or a table. */
  word: string;
  tone: Tone;
  /** Class of its areas in charts, from `page.css`. */
  fill: string;
  /** Path of its sign in a box of 16 by 16: each state has its own shape. */
  sign: string;
  /** Whether the sign is an area rather than a line. */
  isSolid: boolean;
  /** Whether such a chore has ended. */
  isTerminal: boolean;
}

/** In the order of a chore's way, which legends and filters follow. */
const PRESENTATIONS: Record<ChoreState, Presentation> = {
  blocked: {
    word: "pending",
    tone: "quiet",
    fill: "fill-pending",
    sign: "M8 3a5 5 0 1 0 0 10a5 5 0 1 0 0-10z",
    isSolid: false,
    isTerminal: false,
  },
  ready: {
    word: "ready",
    tone: "quiet",
    fill: "fill-pending",
    sign: "M8 3a5 5 0 1 0 0 10a5 5 0 1 0 0-10zM8 7.5v1",
    isSolid: false,
    isTerminal: false,
  },
  submitted: {
    word: "submitted",
    tone: "active",
    fill: "fill-submitted",
    sign: "M5.5 3.5v9l7-4.5z",
    isSolid: false,
    isTerminal: false,
  },
  running: {
    word: "running",
    tone: "active",
    fill: "fill-running",
    sign: "M5.5 3.5v9l7-4.5z",
    isSolid: true,
    isTerminal: false,
  },
  completed: {
    word: "completed",
    tone: "good",
    fill: "fill-completed",
    sign: "M3.5 8.5l3 3 6-7",
    isSolid: false,
    isTerminal: true,
  },
  failed: {
    word: "failed",
    tone: "bad",
    fill: "fill-failed",
    sign: "M4.5 4.5l7 7M11.5 4.5l-7 7",
    isSolid: false,
    isTerminal: true,
  },
  cancelled: {
    word: "cancelled",
    tone: "quiet",
    fill: "fill-cancelled",
    sign: "M4.5 4.5h7v7h-7z",
    isSolid: true,
    isTerminal: true,
  },
  skipped: {
    word: "skipped",
    tone: "caution",
    fill: "fill-skipped",
    sign: "M3.5 4l4 4-4 4M8.5 4l4 4-4 4",
    isSolid: false,
    isTerminal: true,
  },
};

/** All states, in the order of a chore's way. */
export const CHORE_STATES = Object.keys(PRESENTATIONS) as readonly ChoreState[];

export function presentChoreState(state: ChoreState): Presentation {
  return PRESENTATIONS[state];
}

/** Return the state that an address or an answer names, or null where it names none. */
export function parseChoreState(text: string | null): ChoreState | null {
  return CHORE_STATES.find((state) => state === text) ?? null;
}
