/** What the states of a run are called, and which of them are final. */
import type { Run, RunState } from "../api/client";

export type Tone = "active" | "good" | "bad" | "caution" | "quiet";

interface Presentation {
  word: string;
  tone: Tone;
  /** Whether no driver works on such a run any more. */
  isTerminal: boolean;
}

const PRESENTATIONS: Record<RunState, Presentation> = {
  running: { word: "Running", tone: "active", isTerminal: false },
  paused: { word: "Paused", tone: "caution", isTerminal: false },
  draining: { word: "Draining", tone: "caution", isTerminal: false },
  degraded: { word: "Degraded", tone: "caution", isTerminal: false },
  interrupted: { word: "Interrupted", tone: "caution", isTerminal: true },
  completed: { word: "Completed", tone: "good", isTerminal: true },
  failed: { word: "Failed", tone: "bad", isTerminal: true },
  cancelled: { word: "Cancelled", tone: "quiet", isTerminal: true },
};

function presentState(state: RunState): Presentation {
  return PRESENTATIONS[state];
}

export function isTerminal(state: RunState): boolean {
  return PRESENTATIONS[state].isTerminal;
}

/** What is wrong with its driver, where that says more than what the driver published last. */
const WITHOUT_DRIVER: Partial<Record<Run["health"], Pick<Presentation, "word" | "tone">>> = {
  lost: { word: "Lost", tone: "bad" },
  coming: { word: "Taken over", tone: "caution" },
  waiting: { word: "Not started", tone: "quiet" },
  unreadable: { word: "Unreadable", tone: "bad" },
  unknown: { word: "Not looked at yet", tone: "quiet" },
};

/** What a run as a whole is called: by its driver's health, else by the state that was published. */
export function presentRun({ health, status }: Run): Pick<Presentation, "word" | "tone"> {
  const published = status == null ? { word: "Unknown", tone: "quiet" as const } : presentState(status.state);
  return WITHOUT_DRIVER[health] ?? published;
}
