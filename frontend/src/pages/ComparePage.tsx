import { useSearchParams } from "react-router";

import { useComparison, type Comparison } from "../api/useComparison";
import { useRuns } from "../api/useRun";
import { ComparedDifferences } from "../components/ComparedDifferences";
import { ComparedFailures } from "../components/ComparedFailures";
import { ComparedGroups } from "../components/ComparedGroups";
import { ErrorNotice } from "../components/ErrorNotice";
import { FreshnessLine } from "../components/FreshnessLine";
import { useTitle } from "../shell/useTitle";
import "./ComparePage.css";

/** How two runs differ: by group, by failure, by chore. */
export function ComparePage() {
  const [params, setParams] = useSearchParams();
  const a = params.get("a") ?? "";
  const b = params.get("b") ?? "";
  const { data, error } = useComparison(a, b);
  useTitle("Compare two runs");
  const choose = (one: string, other: string) => {
    setParams({ a: one, b: other }, { replace: true });
  };
  return (
    <>
      <h1>Compare two runs</h1>
      <div className="compare-choice">
        <RunChoice
          name="A"
          value={a}
          onChange={(id) => {
            choose(id, b);
          }}
        />
        <RunChoice
          name="B"
          value={b}
          onChange={(id) => {
            choose(a, id);
          }}
        />
        <button
          type="button"
          onClick={() => {
            choose(b, a);
          }}
        >
          Swap
        </button>
      </div>
      {error !== null && <ErrorNotice error={error} hasData={data !== undefined} />}
      {a === "" || b === "" ? (
        <p className="loading">Choose two runs.</p>
      ) : data === undefined ? (
        error === null && <p className="loading">Comparing…</p>
      ) : (
        <Answer data={data} />
      )}
    </>
  );
}

function Answer({ data }: { data: Comparison }) {
  const { a, b } = data;
  const stale = [a, b].find(({ freshness }) => freshness.problem !== "" || !freshness.is_complete);
  return (
    <>
      <FreshnessLine freshness={stale?.freshness} />
      <ComparedGroups data={data} />
      <ComparedFailures data={data} />
      <ComparedDifferences data={data} />
    </>
  );
}

interface RunChoiceProps {
  name: string;
  value: string;
  onChange: (id: string) => void;
}

function RunChoice({ name, value, onChange }: RunChoiceProps) {
  const { data } = useRuns();
  const listed = (data?.runs ?? []).map(({ id }) => id);
  const ids = listed.includes(value) ? listed : [value, ...listed];
  return (
    <label>
      {name}{" "}
      <select
        value={value}
        onChange={(event) => {
          onChange(event.target.value);
        }}
      >
        {ids.map((id) => (
          <option key={id} value={id}>
            {id === "" ? "–" : id}
          </option>
        ))}
      </select>
    </label>
  );
}
