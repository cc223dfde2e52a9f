import { render, screen } from "@testing-library/react";
import { expect, it } from "vitest";

import { ChoreStateMark } from "../components/ChoreStateBadge";
import { CHORE_STATES, parseChoreState, presentChoreState } from "../lib/choreState";

it("gives each state a sign and a word of its own", () => {
  const signs = CHORE_STATES.map(presentChoreState).map(({ sign, isSolid }) => `${sign}${isSolid}`);
  const words = CHORE_STATES.map((state) => presentChoreState(state).word);
  expect(new Set(signs).size).toBe(CHORE_STATES.length);
  expect(new Set(words).size).toBe(CHORE_STATES.length);
});

it("says the word beside the sign", () => {
  render(<ChoreStateMark state="blocked" />);
  expect(screen.getByText("pending")).toBeVisible();
});

it("reads only states out of an address", () => {
  expect(parseChoreState("failed")).toBe("failed");
  expect(parseChoreState("toString")).toBeNull();
  expect(parseChoreState(null)).toBeNull();
});
