import { useId, useRef } from "react";

import { useAction, type ActionOutcome, type ActionRequest } from "../api/useAction";
import { useSettings } from "../api/useSettings";
import { CommandLine } from "./CommandLine";
import { Icon } from "./Icon";
import "./ActionButton.css";

interface Question {
  title: string;
  text: string;
}

interface ActionButtonProps {
  runId: string;
  request: ActionRequest;
  /** What is asked before, where it cannot be taken back. */
  question?: Question;
  /** Whether it makes sense as the run stands. What became of a request stays on the page. */
  isOffered?: boolean;
  /** What the button says, and the one that confirms. */
  children: string;
}

/** A button that asks the driver for something; only where the dashboard may. */
export function ActionButton({
  runId,
  request,
  question,
  isOffered = true,
  children,
}: ActionButtonProps) {
  const { mutate, isPending, data, error } = useAction(runId);
  const dialog = useRef<HTMLDialogElement>(null);
  if (useSettings()?.allow_actions !== true) {
    return null;
  }
  const act = () => {
    dialog.current?.close();
    mutate(request);
  };
  return (
    <span className="action">
      {isOffered && (
        <button
          type="button"
          disabled={isPending}
          onClick={question === undefined ? act : () => dialog.current?.showModal()}
        >
          {children}
        </button>
      )}
      <span className="action-outcome" role="status">
        {isPending && "Asked; waiting for the driver…"}
        {data !== undefined && <Outcome {...data} />}
        {error !== null && <Outcome state="refused" text={error.message} command={null} />}
      </span>
      {question !== undefined && (
        <QuestionDialog dialog={dialog} question={question} confirm={children} onConfirm={act} />
      )}
    </span>
  );
}

function Outcome({ state, text, command }: ActionOutcome) {
  if (state === "waiting") {
    return (
      <span>
        The request waits: {text}. {command !== null && <CommandLine command={command} />}
      </span>
    );
  }
  return (
    <span className={state === "done" ? "is-done" : "is-bad"}>
      <Icon tone={state === "done" ? "good" : "bad"} />
      {text}
    </span>
  );
}

interface QuestionDialogProps {
  dialog: React.RefObject<HTMLDialogElement | null>;
  question: Question;
  confirm: string;
  onConfirm: () => void;
}

function QuestionDialog({ dialog, question, confirm, onConfirm }: QuestionDialogProps) {
  const id = useId();
  return (
    <dialog ref={dialog} className="sheet question" aria-labelledby={id}>
      <h2 id={id}>{question.title}</h2>
      <p>{question.text}</p>
      <p className="question-answers">
        <button type="button" className="is-primary" onClick={onConfirm}>
          {confirm}
        </button>
        <button type="button" onClick={() => dialog.current?.close()}>
          Leave it
        </button>
      </p>
    </dialog>
  );
}
