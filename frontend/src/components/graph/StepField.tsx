import { useState } from "react";

import { MAX_STEPS } from "./graphAddress";

interface StepFieldProps {
  label: string;
  value: number;
  onChange: (value: number) => void;
}

/** How many steps to go along the graph. */
export function StepField({ label, value, onChange }: StepFieldProps) {
  // What is typed may for a moment be no number, as when the field was emptied.
  const [typed, setTyped] = useState<string | null>(null);
  return (
    <label className="step-field">
      {label}
      <input
        type="number"
        min={0}
        max={MAX_STEPS}
        value={typed ?? value}
        onBlur={() => {
          setTyped(null);
        }}
        onChange={(event) => {
          setTyped(event.currentTarget.value);
          const steps = event.currentTarget.valueAsNumber;
          if (Number.isInteger(steps) && steps >= 0 && steps <= MAX_STEPS) {
            onChange(steps);
          }
        }}
      />
    </label>
  );
}
