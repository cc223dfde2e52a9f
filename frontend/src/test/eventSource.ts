/** Streams of the tests: what is sent is said by the test. */
import { act } from "@testing-library/react";

export class FakeEventSource extends EventTarget {
  static opened: FakeEventSource[] = [];
  isClosed = false;

  constructor(readonly url: string) {
    super();
    FakeEventSource.opened.push(this);
  }

  close(): void {
    this.isClosed = true;
  }

  /** Send a message to the page. */
  say(name: string, data?: unknown): void {
    act(() => {
      this.dispatchEvent(new MessageEvent(name, { data: JSON.stringify(data) }));
    });
  }

  /** The stream that the page has opened last. */
  static latest(): FakeEventSource {
    const source = FakeEventSource.opened.at(-1);
    if (source === undefined) {
      throw new Error("no stream was opened");
    }
    return source;
  }

  static forget(): void {
    FakeEventSource.opened = [];
  }
}
