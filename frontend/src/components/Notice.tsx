import type { ReactNode } from "react";

import type { Tone } from "../lib/runState";
import { Icon } from "./Icon";

interface NoticeProps {
  tone: Tone;
  title: string;
  children: ReactNode;
}

/** One thing the reader should know before the numbers. */
export function Notice({ tone, title, children }: NoticeProps) {
  return (
    <section className={`notice tone-${tone}`} role={tone === "bad" ? "alert" : "status"}>
      <Icon tone={tone} />
      <div>
        <p className="notice-title">{title}</p>
        <div className="notice-text">{children}</div>
      </div>
    </section>
  );
}
