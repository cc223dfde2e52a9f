/** What a chore was started with: its command or call, and the rest of its record. */
import type { Schemas } from "../../api/client";
import { useRecord, type AttemptChoice } from "../../api/useChore";
import { formatBytes } from "../../lib/format";
import { ErrorText } from "./Explanation";

interface CallProps {
  runId: string;
  choreId: string;
  attempt: AttemptChoice;
  /** From the header of the chore, which is there before its first attempt. */
  answer: Schemas["ChoreResponse"];
  /** Whether it left a record of its start; a warm worker leaves none. */
  hasRecord: boolean;
}

/** Already said elsewhere on the page, or only for programs. */
const KNOWN = new Set(["format", "id", "name", "attempt", "nice", "callable", "arguments", "command"]);

export function Call({ runId, choreId, attempt, answer, hasRecord }: CallProps) {
  const { data: found, isLoading } = useRecord(runId, choreId, attempt, "metadata", hasRecord);
  if (found == null && answer.callable !== "") {
    return isLoading ? null : <HeaderCall answer={answer} />;
  }
  const record: Readonly<Record<string, unknown>> = found?.content ?? namesOf(answer);
  const text = callOf(record, answer.command);
  const rest = Object.entries(record).filter(([name]) => !KNOWN.has(name));
  if (text === "" && rest.length === 0) {
    return null;
  }
  return (
    <section aria-labelledby="call-title">
      <h2 id="call-title">{"callable" in record ? "Call" : "Command"}</h2>
      {text !== "" && <pre className="call">{text}</pre>}
      {rest.length > 0 && (
        <details>
          <summary>All that was recorded at its start</summary>
          <dl className="record">
            {rest.map(([name, value]) => (
              <div key={name}>
                <dt>{name.replaceAll("_", " ")}</dt>
                <dd>{say(value)}</dd>
              </div>
            ))}
          </dl>
        </details>
      )}
    </section>
  );
}

/** What the header says of a call; the arguments are a pickle, which is never loaded here. */
function HeaderCall({ answer }: { answer: Schemas["ChoreResponse"] }) {
  const { callable, arguments_bytes: size } = answer;
  const names = namesOf(answer).environment_names;
  return (
    <section aria-labelledby="call-title">
      <h2 id="call-title">Call</h2>
      <pre className="call">{size === null ? `${callable}()` : `${callable}(…)`}</pre>
      {size !== null && (
        <p className="of">
          Its arguments are {formatBytes(size)} of pickle, which the dashboard never loads:{" "}
          <code>matensemble explain</code> shows them.
        </p>
      )}
      {names !== undefined && (
        <p className="of">
          Sets in its environment: <span className="name">{names}</span>
        </p>
      )}
    </section>
  );
}

/** The part of a chore's record that its header tells too. */
function namesOf({ environment_names: names }: Schemas["ChoreResponse"]): { environment_names?: string } {
  if (names === null) {
    return { environment_names: "names that cannot be told" };
  }
  return names.length === 0 ? {} : { environment_names: names.join(", ") };
}

/** The error that an earlier attempt left. */
export function AttemptError({ runId, choreId, attempt }: Omit<CallProps, "answer" | "hasRecord">) {
  const record = useRecord(runId, choreId, attempt, "error").data?.content;
  return record === undefined ? null : (
    <ErrorText
      label={`Error of attempt ${say(record.attempt)}`}
      head={`${say(record.type)}: ${say(record.message)}`}
      text={typeof record.traceback === "string" ? record.traceback : ""}
    />
  );
}

/** The record is written by the chore's own side: any field may be missing or of another kind. */
function callOf(record: Readonly<Record<string, unknown>>, command: readonly string[]): string {
  if (typeof record.callable === "string") {
    return `${record.callable}(${say(record.arguments)})`;
  }
  const words: readonly unknown[] = Array.isArray(record.command) ? record.command : command;
  return words.map((word) => quote(say(word))).join(" ");
}

/** As a shell takes it. */
function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

function say(value: unknown): string {
  if (value === undefined || value === null) {
    return "";
  }
  return typeof value === "string" ? value : JSON.stringify(value);
}
