/** The conditions of a table of chores, all of them kept in the address of the page. */
import { useEffect, useRef, useState } from "react";

import type { Schemas } from "../api/client";
import { CHORE_STATES, presentChoreState } from "../lib/choreState";
import { REASONS, type ChoreQuestion, type Condition } from "../lib/choreFilter";
import { formatCount, formatReason } from "../lib/format";
import { useShortcut } from "../shell/shortcuts";
import "./ChoreFilterBar.css";

const TYPING_MILLISECONDS = 250;

interface ChoreFilterBarProps {
  question: ChoreQuestion;
  groups: readonly Schemas["GroupResponse"][];
  hosts: readonly string[];
  /** Empty: without the condition. */
  onChange: (condition: Condition, value: string) => void;
  onClear: () => void;
}

export function ChoreFilterBar({ question, groups, hosts, onChange, onClear }: ChoreFilterBarProps) {
  useShortcut("Escape", "Clear the filter", onClear);
  const names = withChosen(groups.map(({ name }) => name), question.group);
  return (
    <div role="search" className="filter-bar">
      <SearchField text={question.text ?? ""} onChange={onChange} />
      <Choice
        label="State"
        value={question.state}
        options={CHORE_STATES.filter((state) => state !== "ready")}
        say={(state) => presentChoreState(state).word}
        onChoose={(value) => {
          onChange("state", value);
        }}
      />
      <Choice
        label="Group"
        value={question.group}
        options={names}
        say={(name) => {
          const total = groups.find((group) => group.name === name)?.total;
          return total === undefined ? name : `${name} (${formatCount(total)})`;
        }}
        onChoose={(value) => {
          onChange("group", value);
        }}
      />
      <Choice
        label="Reason"
        value={question.reason}
        options={REASONS}
        say={formatReason}
        onChoose={(value) => {
          onChange("reason", value);
        }}
      />
      <Choice
        label="Host"
        value={question.host}
        options={withChosen(hosts, question.host)}
        say={(host) => host}
        onChoose={(value) => {
          onChange("host", value);
        }}
      />
      <label className="check">
        <input
          type="checkbox"
          checked={question.retried ?? false}
          onChange={(event) => {
            onChange("retried", event.target.checked ? "true" : "");
          }}
        />
        more than one attempt
      </label>
      {question.cluster !== undefined && (
        <button
          type="button"
          className="chip"
          onClick={() => {
            onChange("cluster", "");
          }}
        >
          failures of kind {question.cluster} <span aria-hidden="true">×</span>
          <span className="unseen">: leave out this condition</span>
        </button>
      )}
    </div>
  );
}

/** What is chosen is an option even where the server does not list it. */
function withChosen(options: readonly string[], chosen: string | undefined): readonly string[] {
  return chosen === undefined || options.includes(chosen) ? options : [...options, chosen];
}

interface ChoiceProps<T extends string> {
  label: string;
  value: T | undefined;
  options: readonly T[];
  say: (option: T) => string;
  onChoose: (value: string) => void;
}

function Choice<T extends string>({ label, value, options, say, onChoose }: ChoiceProps<T>) {
  return (
    <select
      aria-label={label}
      value={value ?? ""}
      className={value === undefined ? undefined : "is-set"}
      onChange={(event) => {
        onChoose(event.target.value);
      }}
    >
      <option value="">{label}: any</option>
      {options.map((option) => (
        <option key={option} value={option}>
          {say(option)}
        </option>
      ))}
    </select>
  );
}

interface SearchFieldProps {
  text: string;
  onChange: (condition: Condition, value: string) => void;
}

/** Asks when the reader pauses, not at each key. */
function SearchField({ text, onChange }: SearchFieldProps) {
  const field = useRef<HTMLInputElement>(null);
  const [draft, setDraft] = useState<string | null>(null);
  useEffect(() => {
    if (draft === null) {
      return;
    }
    const timer = setTimeout(() => {
      onChange("text", draft);
      setDraft(null);
    }, TYPING_MILLISECONDS);
    return () => {
      clearTimeout(timer);
    };
  }, [draft, onChange]);
  useShortcut("/", "Search chores", () => field.current?.focus());
  return (
    <input
      ref={field}
      type="search"
      aria-label="Part of a chore's id"
      placeholder="Part of an id  ( / )"
      maxLength={255}
      value={draft ?? text}
      onChange={(event) => {
        setDraft(event.target.value);
      }}
      onKeyDown={(event) => {
        if (event.key === "Escape") {
          event.preventDefault();
          setDraft("");
          event.currentTarget.blur();
        }
      }}
    />
  );
}
