/** Why a chore is where it is, in the words of `matensemble explain`. */
import { Fragment, type ReactNode } from "react";
import { Link } from "react-router";

import type { Schemas } from "../../api/client";
import { useExplanation } from "../../api/useChore";
import { choreAddress, choresAddress } from "../../lib/choreAddress";
import { formatCount, formatInstantOf, formatQuantity, formatSeconds } from "../../lib/format";
import { AnsiText } from "../AnsiText";
import { ChoreStateMark } from "../ChoreStateBadge";
import { ErrorNotice } from "../ErrorNotice";

type Answer = Schemas["ExplanationResponse"];
type Failure = Schemas["FailureResponse"];
type Related = Schemas["RelatedChoreResponse"];

export function Explanation({ runId, choreId }: { runId: string; choreId: string }) {
  const { data, error } = useExplanation(runId, choreId);
  if (data === undefined) {
    return error === null ? null : <ErrorNotice error={error} />;
  }
  const isEmpty = data.because.length === 0 && data.hold === "" && data.source === "" && data.earlier.length === 0;
  return isEmpty ? null : (
    <section aria-labelledby="why-title">
      <h2 id="why-title">Why</h2>
      <div className="why">
        {data.because.map((line, index) => (
          <p key={index} className={index === 0 ? "why-first" : undefined}>
            <AnsiText text={line} />
          </p>
        ))}
        {data.hold !== "" && <p>{data.hold}</p>}
        {data.source !== "" && <p>Its result was taken over from {data.source}.</p>}
        {data.not_before !== null && <p>Its next attempt begins {formatInstantOf(data.not_before)} at the earliest.</p>}
        {data.failure !== null && <Meaning failure={data.failure} />}
        {data.room !== null && <Room room={data.room} />}
        <Waits runId={runId} answer={data} />
        <Chain runId={runId} answer={data} />
        <Earlier answer={data} />
      </div>
      {data.failure !== null && <FailureText failure={data.failure} choreId={choreId} />}
    </section>
  );
}

function Meaning({ failure }: { failure: Failure }) {
  return (
    <p className="of">
      {[failure.meaning, failure.advice].join(" ")}
      {failure.not_again !== "" && ` ${capitalise(failure.not_again)}.`}
    </p>
  );
}

function Room({ room }: { room: Schemas["RoomResponse"] }) {
  const free = [
    room.total_cores > 0 && `${formatCount(room.free_cores)} of ${formatQuantity(room.total_cores, "core")}`,
    room.total_gpus > 0 && `${formatCount(room.free_gpus)} of ${formatQuantity(room.total_gpus, "GPU")}`,
  ].filter((part) => part !== false);
  return (
    <p className="of">
      It asks for {room.request}
      {room.duration !== null && `, ${formatSeconds(room.duration)} at most`}.
      {free.length > 0 && ` Free now: ${free.join(", ")}.`}
      {room.avoids.length > 0 && ` It keeps off ${room.avoids.join(", ")}.`}
    </p>
  );
}

interface PartProps {
  runId: string;
  answer: Answer;
}

function Waits({ runId, answer }: PartProps) {
  const { waits_for: chores, num_waits_for: total, gathers } = answer;
  const groups = gathers.filter(({ ended, total: all }) => ended < all);
  if (chores.length === 0 && groups.length === 0) {
    return null;
  }
  return (
    <>
      <p>
        {total > 0 && `Waits for ${formatQuantity(total, "chore")} of ${formatCount(answer.num_upstream)}`}
        {total > chores.length && `, the first ${formatCount(chores.length)}`}
        {total > 0 ? ":" : "Waits for groups:"}
      </p>
      <ul className="plain">
        {chores.map((chore) => (
          <li key={chore.id}>
            <RelatedLine runId={runId} chore={chore} />
          </li>
        ))}
        {groups.map(({ name, ended, total: all }) => (
          <li key={name}>
            <Link to={choresAddress(runId, { group: name })}>all of {name}</Link>{" "}
            <span className="of">
              {formatCount(ended)} of {formatCount(all)} ended
            </span>
          </li>
        ))}
      </ul>
    </>
  );
}

function Chain({ runId, answer }: PartProps) {
  const { chain } = answer;
  return chain.length < 2 ? null : (
    <>
      <p>{answer.failure === null ? "From here to what it waits for in the end:" : "From here to the root of it:"}</p>
      <ol className="chain">
        {chain.map((chore, index) => (
          <Fragment key={chore.id}>
            {index === chain.length - 1 && answer.num_chain_left_out > 0 && (
              <li className="of">… {formatCount(answer.num_chain_left_out)} between …</li>
            )}
            <li>
              <RelatedLine runId={runId} chore={chore} />
            </li>
          </Fragment>
        ))}
      </ol>
    </>
  );
}

function Earlier({ answer }: { answer: Answer }) {
  return answer.earlier.length === 0 ? null : (
    <>
      <p>Why it ran again:</p>
      <ul className="plain">
        {answer.earlier.map(({ attempt, text }) => (
          <li key={attempt}>
            <span className="of">attempt {attempt}:</span> {text}
          </li>
        ))}
      </ul>
    </>
  );
}

function RelatedLine({ runId, chore }: { runId: string; chore: Related }) {
  return (
    <>
      <Link className="name" to={choreAddress(runId, chore.id)}>
        {chore.id}
      </Link>{" "}
      <ChoreStateMark state={chore.state} />
      {chore.because !== "" && (
        <span className="of">
          {" "}
          <AnsiText text={chore.because} />
        </span>
      )}
    </>
  );
}

/** What the failure said itself: a traceback, or else the end of what was printed. */
function FailureText({ failure, choreId }: { failure: Failure; choreId: string }) {
  const whose = failure.chore.id === choreId ? "" : ` of ${failure.chore.id}`;
  const printed = failure.outputs.find(({ lines }) => lines.length > 0);
  if (failure.traceback !== "" || failure.error_type !== "") {
    return (
      <ErrorText
        label={`Error${whose}`}
        head={`${failure.error_type}: ${failure.message}`}
        text={failure.traceback}
      />
    );
  }
  return printed === undefined ? null : (
    <ErrorText label={`The end of ${printed.stream}${whose}`} text={printed.lines.join("\n")} />
  );
}

interface ErrorTextProps {
  label: string;
  head?: string;
  text: string;
}

export function ErrorText({ label, head, text }: ErrorTextProps) {
  return (
    <figure className="error-text">
      <figcaption>
        {label}
        {head !== undefined && <strong>{head}</strong>}
      </figcaption>
      {text !== "" && (
        // A region, so that it can be scrolled by keyboard.
        <div role="region" aria-label={label} tabIndex={0}>
          <pre>{lines(text)}</pre>
        </div>
      )}
    </figure>
  );
}

function lines(text: string): ReactNode {
  return text
    .trimEnd()
    .split("\n")
    .map((line, index) => (
      <Fragment key={index}>
        {index > 0 && "\n"}
        <AnsiText text={line} />
      </Fragment>
    ));
}

function capitalise(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
