/** Reads a log for a page: its end first, what grows as it grows, other parts when asked for. */
import { isAborted, readLog, type LogPlace } from "../../api/log";
import {
  append,
  endOf,
  MAX_BYTES,
  openWindow,
  PIECE_BYTES,
  prepend,
  startOf,
  type LogWindow,
} from "../../lib/logWindow";

/** How often it is looked whether more was printed. */
export const LOOK_MILLISECONDS = 2000;
/** The server gives no less: a character may be as long. */
const MIN_RANGE_BYTES = 4;
/** Farther behind than that, a follower goes to the end instead of reading all between. */
const MAX_BEHIND_BYTES = 2 * PIECE_BYTES;

export interface LogSnapshot {
  /** Null before anything was read, or where there is no file. */
  window: LogWindow | null;
  isMissing: boolean;
  isLoading: boolean;
  error: Error | null;
}

/** One log; a store that React subscribes to. It reads while somebody does. */
export class LogReader {
  private isFollowing = true;
  private snapshot: LogSnapshot = { window: null, isMissing: false, isLoading: true, error: null };
  private etag: string | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private stopping = new AbortController();
  /** What was asked for last; questions wait for the one before. */
  private queue: Promise<void> = Promise.resolve();
  private numWaiting = 0;
  private readonly listeners = new Set<() => void>();

  /** @param isOver whether nothing more will be printed */
  constructor(
    private readonly place: LogPlace,
    private isOver: boolean,
  ) {}

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    if (this.listeners.size === 1) {
      this.stopping = new AbortController();
      this.look(true);
    }
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size === 0) {
        clearTimeout(this.timer);
        this.stopping.abort();
      }
    };
  };

  readonly read = (): LogSnapshot => this.snapshot;

  /** Say whether anything more will be printed; the last is read once more. */
  setOver(isOver: boolean): void {
    if (isOver !== this.isOver) {
      this.isOver = isOver;
      this.look(true);
    }
  }

  /** Say whether the reader of the page is at the end and wants to stay there. */
  follow(isFollowing: boolean): void {
    this.isFollowing = isFollowing;
  }

  loadEarlier(): void {
    void this.ask(async () => {
      const { window } = this.snapshot;
      const start = window === null ? 0 : startOf(window);
      if (window !== null && start > 0) {
        const offset = Math.max(0, start - PIECE_BYTES);
        const length = start < MIN_RANGE_BYTES ? PIECE_BYTES : start - offset;
        const read = await this.range({ offset, length });
        if (read !== null) {
          // Another end: the file was cut meanwhile, or only a few bytes were missing.
          this.show(read.end === start ? prepend(window, read) : openWindow(read));
        }
      }
    });
  }

  loadLater(): void {
    void this.ask(async () => {
      const { window } = this.snapshot;
      if (window !== null && !window.isAtEnd) {
        const read = await this.range({ offset: endOf(window), length: PIECE_BYTES });
        if (read !== null) {
          this.show(append(window, read));
        }
      }
    });
  }

  /** Show the part around a byte of the file. */
  async seek(offset: number): Promise<void> {
    await this.ask(async () => {
      const { window } = this.snapshot;
      if (window !== null && offset >= startOf(window) && offset < endOf(window)) {
        return;
      }
      const from = Math.max(0, offset - PIECE_BYTES / 2);
      const read = await this.range({ offset: from, length: PIECE_BYTES });
      if (read !== null) {
        this.show(openWindow(read));
      }
    }, true);
  }

  /** Show the end. */
  async toEnd(): Promise<void> {
    this.isFollowing = true;
    await this.ask(async () => {
      if (this.snapshot.window?.isAtEnd !== true) {
        await this.openEnd();
      }
    }, true);
  }

  /** @param isWanted whether to look even where another question is on its way */
  private look(isWanted = false): void {
    clearTimeout(this.timer);
    if (this.listeners.size === 0) {
      return;
    }
    void this.ask(async () => {
      if (!document.hidden) {
        await this.readNew();
      }
    }, isWanted);
    if (!this.isOver) {
      this.timer = setTimeout(() => {
        this.look();
      }, LOOK_MILLISECONDS);
    }
  }

  private async readNew(): Promise<void> {
    const { window } = this.snapshot;
    if (window === null) {
      await this.openEnd();
      return;
    }
    if (!window.isAtEnd) {
      return;
    }
    const found = await readLog(
      this.place,
      { mark: window.mark, length: PIECE_BYTES, is_final: this.isOver },
      this.stopping.signal,
      this.etag,
    );
    if (found === null || found === "same") {
      return;
    }
    const { answer } = found;
    this.etag = found.etag;
    if (answer.is_replaced) {
      this.show(openWindow(answer));
    } else if (this.isFollowing && answer.size - answer.end > MAX_BEHIND_BYTES) {
      await this.openEnd();
    } else if (this.isFollowing || answer.end - startOf(window) <= MAX_BYTES) {
      this.show(append(window, answer));
    } else {
      // The reader is far up, and would lose the place: the rest waits until it is asked for.
      this.show({ ...window, size: answer.size, isAtEnd: false });
    }
  }

  private async openEnd(): Promise<void> {
    const found = await readLog(
      this.place,
      { tail: PIECE_BYTES, is_final: this.isOver },
      this.stopping.signal,
    );
    if (found === null) {
      this.publish({ ...this.snapshot, isMissing: true });
    } else if (found !== "same") {
      this.etag = found.etag;
      this.show(openWindow(found.answer));
    }
  }

  private async range(range: { offset: number; length: number }) {
    const found = await readLog(
      this.place,
      { ...range, is_final: this.isOver },
      this.stopping.signal,
    );
    return found === null || found === "same" ? null : found.answer;
  }

  /** Ask after what was asked before; looks that pile up are left out. */
  private ask(question: () => Promise<void>, isWanted = false): Promise<void> {
    if (this.numWaiting > 0 && !isWanted) {
      return this.queue;
    }
    this.numWaiting += 1;
    this.publish({ ...this.snapshot, isLoading: true });
    this.queue = this.queue
      .then(question)
      .then(
        () => {
          this.publish({ ...this.snapshot, error: null });
        },
        (error: unknown) => {
          if (!isAborted(error)) {
            this.publish({ ...this.snapshot, error: error instanceof Error ? error : new Error(String(error)) });
          }
        },
      )
      .then(() => {
        this.numWaiting -= 1;
        this.publish({ ...this.snapshot, isLoading: this.numWaiting > 0 });
      });
    return this.queue;
  }

  private show(window: LogWindow): void {
    this.publish({ ...this.snapshot, window, isMissing: false });
  }

  private publish(snapshot: LogSnapshot): void {
    this.snapshot = snapshot;
    for (const listener of this.listeners) {
      listener();
    }
  }
}
