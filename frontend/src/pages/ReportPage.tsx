import { BASE_URL } from "../api/client";
import { useRun } from "../shell/run";

/** One file of the run to keep or to mail. */
export function ReportPage() {
  const { id } = useRun();
  return (
    <>
      <h2>Report</h2>
      <p className="prose">
        One HTML file that shows this run as it stands now: its state, groups, durations and failures
        with what they printed. It needs no server and no connection, so it can be kept, mailed or
        printed. It is 5 MB at most, and says what it left out.
      </p>
      <p className="prose">
        <a className="button is-primary" href={`${BASE_URL}api/v1/runs/${encodeURIComponent(id)}/report`} download>
          Download the report
        </a>
      </p>
      <p className="prose">
        In a shell: <code>matensemble report DIR -o report.html</code>
      </p>
    </>
  );
}
