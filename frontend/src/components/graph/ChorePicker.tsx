import { useDeferredValue, useId, useState } from "react";

import { useChoreNames } from "../../api/useGraph";

interface ChorePickerProps {
  runId: string;
  chore: string;
  onPick: (chore: string) => void;
}

/** A field for the id of a chore, which offers those that have the text in them. */
export function ChorePicker({ runId, chore, onPick }: ChorePickerProps) {
  const [text, setText] = useState(chore);
  const names = useChoreNames(runId, useDeferredValue(text === chore ? "" : text));
  const list = useId();
  return (
    <form
      className="chore-picker"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        // A part of an id stands for the first that has it.
        const picked = names.includes(text) ? text : (names[0] ?? text);
        if (picked !== "") {
          onPick(picked);
        }
      }}
    >
      <label>
        Chore
        <input
          type="search"
          list={list}
          value={text}
          spellCheck={false}
          autoComplete="off"
          onChange={(event) => {
            setText(event.currentTarget.value);
          }}
        />
      </label>
      <datalist id={list}>
        {names.map((name) => (
          <option key={name} value={name} />
        ))}
      </datalist>
      <button type="submit">Show</button>
    </form>
  );
}
