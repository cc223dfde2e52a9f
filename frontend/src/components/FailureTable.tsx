import type { RunStatus } from "../api/client";
import { formatCount, formatQuantity, formatReason } from "../lib/format";
import { ScrollTable } from "./ScrollTable";

/** The root failures that the status holds, and what followed from them. */
export function FailureTable({ status }: { status: RunStatus }) {
  const { root_failures: failures, num_root_failures: numRoots, counts } = status;
  const numFollowed = Math.max(0, counts.failed - numRoots);
  return (
    <section aria-labelledby="failures-title">
      <h2 id="failures-title">Failures</h2>
      <p className="lead">
        {formatQuantity(numRoots, "chore")} failed of {numRoots === 1 ? "its" : "their"} own
        {numFollowed > 0 &&
          `; ${formatQuantity(numFollowed, "chore")} could not run because of ${numRoots === 1 ? "it" : "them"}`}
        .
        {failures.length < numRoots &&
          ` Showing the first ${formatCount(failures.length)} of ${formatCount(numRoots)}.`}
      </p>
      <ScrollTable label="Root failures">
        <thead>
          <tr>
            <th scope="col">Chore</th>
            <th scope="col">Reason</th>
            <th scope="col" className="number">
              Exit code
            </th>
            <th scope="col">Detail</th>
          </tr>
        </thead>
        <tbody>
          {failures.map((failure) => (
            <tr key={failure.chore_id}>
              <th scope="row" className="name">
                {failure.chore_id}
              </th>
              <td className="is-bad nowrap">{formatReason(failure.reason)}</td>
              <td className="number">{failure.exit_code ?? "–"}</td>
              <td className="detail">{failure.detail}</td>
            </tr>
          ))}
        </tbody>
      </ScrollTable>
      <p className="more">
        The whole story of one: <code>matensemble logs {status.run} CHORE --stderr</code>
      </p>
    </section>
  );
}
