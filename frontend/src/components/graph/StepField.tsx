import { MAX_STEPS } from "./graphAddress";

interface StepFieldProps {
  label: string;
  value: number;
  onChange: (value: number) => void;
}

/** How many steps to go along the graph. */
export function StepField({ label, value, onChange }: StepFieldProps) {
  return (
    <label className="step-field">
      {label}
      <input
        type="number"
        min={0}
        max={MAX_STEPS}
        value={value}
        onChange={(event) => {
          const steps = event.currentTarget.valueAsNumber;
          if (Number.isInteger(steps) && steps >= 0 && steps <= MAX_STEPS) {
            onChange(steps);
          }
        }}
      />
    </label>
  );
}
