/** Asks for the status every two seconds, and stops when the run has ended. */
import { useQuery, type UseQueryResult } from "@tanstack/react-query";

import { isTerminal } from "../lib/runState";
import { ApiError, fetchStatus, type RunStatus, type StatusAnswer } from "./client";

export const POLL_MILLISECONDS = 2000;
const STATUS_KEY = ["status"];

export interface Snapshot extends StatusAnswer {
  /** Whether the run had already ended at the look before: nothing more is to come. */
  isSettled: boolean;
}

export function useRunStatus(): UseQueryResult<Snapshot> {
  return useQuery<Snapshot>({
    queryKey: STATUS_KEY,
    queryFn: async ({ client, signal }) => {
      const answer = await fetchStatus(signal);
      const before = client.getQueryData<Snapshot>(STATUS_KEY)?.status;
      return { ...answer, isSettled: before !== undefined && isSameEnd(before, answer.status) };
    },
    refetchInterval: ({ state }) => {
      const isRefused = state.error instanceof ApiError && state.error.status === 401;
      const isOver = state.error === null && state.data?.isSettled === true;
      return isRefused || isOver ? false : POLL_MILLISECONDS;
    },
    // The next poll is the retry; coming back to the page looks again, also after the end.
    retry: false,
    refetchOnWindowFocus: "always",
  });
}

function isSameEnd(before: RunStatus, now: RunStatus): boolean {
  return before.run === now.run && isTerminal(before.state) && isTerminal(now.state);
}
