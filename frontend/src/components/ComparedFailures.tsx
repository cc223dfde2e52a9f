import { Link } from "react-router";

import type { Schemas } from "../api/client";
import type { Comparison } from "../api/useComparison";
import { choreAddress } from "../lib/choreAddress";
import { formatCount, formatReason } from "../lib/format";
import { ScrollTable } from "./ScrollTable";

const WHERE: Record<Schemas["Where"], string> = {
  only_a: "only in A",
  only_b: "only in B",
  both: "in both",
};

/** Kinds of failures, those that only one of the runs has first. */
export function ComparedFailures({ data }: { data: Comparison }) {
  return (
    <section className="compared">
      <h2>Failures by cause</h2>
      {data.failures.length === 0 ? (
        <p className="lead">Nothing failed in either.</p>
      ) : (
        <FailureTable data={data} />
      )}
      {data.failures.length < data.num_failures && (
        <p className="more">
          Showing the first {formatCount(data.failures.length)} of {formatCount(data.num_failures)}{" "}
          causes.
        </p>
      )}
    </section>
  );
}

function FailureTable({ data: { a, b, failures } }: { data: Comparison }) {
  return (
    <ScrollTable label="Failures in both runs">
      <thead>
        <tr>
          <th scope="col">Cause</th>
          <th scope="col">Where</th>
          <th scope="col" className="number">
            Failed in A
          </th>
          <th scope="col" className="number">
            Failed in B
          </th>
          <th scope="col">Example</th>
        </tr>
      </thead>
      <tbody>
        {failures.map((one) => (
          <tr key={`${one.reason} ${one.pattern}`}>
            <th scope="row" className="detail">
              {formatReason(one.reason)} <span className="of">{one.pattern}</span>
            </th>
            <td className={one.where === "both" ? "nowrap of" : "nowrap is-bad"}>{WHERE[one.where]}</td>
            <td className={one.failed_a === 0 ? "number is-zero" : "number"}>{formatCount(one.failed_a)}</td>
            <td className={one.failed_b === 0 ? "number is-zero" : "number"}>{formatCount(one.failed_b)}</td>
            <td className="name">
              {one.sample_b !== null ? (
                <Link to={choreAddress(b.id, one.sample_b)}>{one.sample_b}</Link>
              ) : (
                one.sample_a !== null && <Link to={choreAddress(a.id, one.sample_a)}>{one.sample_a}</Link>
              )}
            </td>
          </tr>
        ))}
      </tbody>
    </ScrollTable>
  );
}
