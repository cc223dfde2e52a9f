import { ApiError } from "../api/client";
import { Notice } from "./Notice";

/** Why there is nothing to show, or why what is shown may be old. */
export function ErrorNotice({ error, hasData = false }: { error: Error; hasData?: boolean }) {
  const { title, text, tone } = explain(error);
  return (
    <Notice tone={tone} title={title}>
      <p>{text}</p>
      {hasData && <p>What follows is the last that was seen.</p>}
    </Notice>
  );
}

function explain(error: Error): { title: string; text: string; tone: "bad" | "caution" | "quiet" } {
  if (!(error instanceof ApiError)) {
    const text =
      "Its process may have ended with the run, or the tunnel may be closed. This page tries again every few seconds.";
    return { title: "The dashboard does not answer", text, tone: "bad" };
  }
  if (error.status === 401) {
    return { title: "This page needs its link", text: error.message, tone: "caution" };
  }
  if (error.status === 404) {
    return { title: "Not found", text: error.message, tone: "quiet" };
  }
  return { title: "This cannot be shown", text: error.message, tone: "bad" };
}
