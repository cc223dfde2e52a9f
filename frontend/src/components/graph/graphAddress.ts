/** What a page of the graph shows, as its address says it. Pure. */

export const VIEWS = ["groups", "chore", "failed", "whole"] as const;
export type GraphView = (typeof VIEWS)[number];

export interface GraphQuestion {
  view: GraphView;
  /** Of the view `chore`; empty where none is chosen. */
  chore: string;
  /** Steps to go. */
  up: number;
  down: number;
}

export const MAX_STEPS = 20;
const DEFAULT_STEPS = 2;
const MAX_ID = 255;

/** Read an address; what it says wrongly is left out. */
export function parseGraph(parameters: URLSearchParams): GraphQuestion {
  const chore = (parameters.get("chore") ?? "").slice(0, MAX_ID);
  const named = VIEWS.find((view) => view === parameters.get("view"));
  return {
    view: named ?? (chore === "" ? "groups" : "chore"),
    chore,
    up: parseSteps(parameters.get("up")),
    down: parseSteps(parameters.get("down")),
  };
}

/** The search part of an address; what is as it would be anyhow is left out. */
export function formatGraph({ view, chore, up, down }: GraphQuestion): string {
  const parameters = new URLSearchParams();
  if (view !== "groups") {
    parameters.set("view", view);
  }
  if (view === "chore" && chore !== "") {
    parameters.set("chore", chore);
  }
  if ((view === "chore" || view === "failed") && up !== DEFAULT_STEPS) {
    parameters.set("up", String(up));
  }
  if (view === "chore" && down !== DEFAULT_STEPS) {
    parameters.set("down", String(down));
  }
  return parameters.toString();
}

export function graphAddress(runId: string, question: GraphQuestion): string {
  const search = formatGraph(question);
  return `/runs/${encodeURIComponent(runId)}/graph${search === "" ? "" : `?${search}`}`;
}

function parseSteps(text: string | null): number {
  const steps = text === null ? NaN : Number(text);
  return Number.isInteger(steps) && steps >= 0 ? Math.min(steps, MAX_STEPS) : DEFAULT_STEPS;
}
