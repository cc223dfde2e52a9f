/** The stream of a run: one connection a page brings what is new, so nothing else asks. */
import { useQueryClient, type QueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";

import { BASE_URL, type Run } from "./client";
import { runKey } from "./useRun";

/**
 * - `opening`: nothing was heard yet.
 * - `open`: the server tells what is new.
 * - `closed`: it cannot be reached, or the page is hidden.
 * - `ended`: the run is over and the server has said its last.
 */
export type StreamState = "opening" | "open" | "closed" | "ended";

/** Pages ask again at most this often, however fast the run goes. */
const RENEWAL_MILLISECONDS = 2000;
const RECONNECT_MILLISECONDS = 3000;

interface Message {
  run: Run;
  /** Changes whenever the index of the run did. */
  generation: number;
}

/** Follow a run while the page is seen; return how the stream stands. */
export function useRunStream(runId: string): StreamState {
  const client = useQueryClient();
  const [state, setState] = useState<StreamState>("opening");
  useEffect(() => {
    const stream = new RunStream(runId, client, setState);
    return () => {
      stream.close();
    };
  }, [runId, client]);
  return state;
}

class RunStream {
  private source: EventSource | null = null;
  private generation: number | null = null;
  private renewedAt = -Infinity;
  private renewal: ReturnType<typeof setTimeout> | undefined;
  private reconnection: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly runId: string,
    private readonly client: QueryClient,
    private readonly tell: (state: StreamState) => void,
  ) {
    document.addEventListener("visibilitychange", this.lookAtPage);
    this.lookAtPage();
  }

  close(): void {
    document.removeEventListener("visibilitychange", this.lookAtPage);
    clearTimeout(this.renewal);
    this.disconnect();
  }

  /** A hidden page gives its connection back: browsers have six for all pages of a server. */
  private readonly lookAtPage = (): void => {
    if (document.hidden) {
      this.disconnect();
    } else if (this.source === null) {
      this.connect();
    }
  };

  private connect(): void {
    const source = new EventSource(
      `${BASE_URL}api/v1/runs/${encodeURIComponent(this.runId)}/events`,
    );
    this.source = source;
    source.addEventListener("run", (event: MessageEvent<string>) => {
      this.take(JSON.parse(event.data) as Message);
    });
    source.addEventListener("ended", () => {
      this.disconnect();
      this.tell("ended");
    });
    source.addEventListener("error", () => {
      this.disconnect();
      this.tell("closed");
      this.reconnection = setTimeout(this.lookAtPage, RECONNECT_MILLISECONDS);
    });
  }

  private disconnect(): void {
    clearTimeout(this.reconnection);
    this.source?.close();
    this.source = null;
  }

  private take({ run, generation }: Message): void {
    this.tell("open");
    this.client.setQueryData(runKey(this.runId), run);
    if (generation !== this.generation) {
      this.generation = generation;
      this.renewSoon();
    }
  }

  private renewSoon(): void {
    if (this.renewal !== undefined) {
      return;
    }
    const wait = Math.max(0, this.renewedAt + RENEWAL_MILLISECONDS - Date.now());
    this.renewal = setTimeout(() => {
      this.renewal = undefined;
      this.renewedAt = Date.now();
      void this.client.invalidateQueries({
        predicate: ({ queryKey: [kind, runId, noun] }) =>
          kind === "run" && runId === this.runId && noun !== "run",
      });
    }, wait);
  }
}
