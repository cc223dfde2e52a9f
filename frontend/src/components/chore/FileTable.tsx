/** The files that a chore left, to download. */
import { downloadUrl, useArtifacts, type AttemptChoice } from "../../api/useChore";
import { formatBytes, formatInstantOf } from "../../lib/format";
import { ErrorNotice } from "../ErrorNotice";
import { ScrollTable } from "../ScrollTable";

interface FileTableProps {
  runId: string;
  choreId: string;
  attempt: AttemptChoice;
  /** Whether it went to a warm worker, which leaves no file that would hold nothing. */
  isPooled: boolean;
}

export function FileTable({ runId, choreId, attempt, isPooled }: FileTableProps) {
  const { data, error } = useArtifacts(runId, choreId, attempt);
  if (error !== null && data === undefined) {
    return <ErrorNotice error={error} />;
  }
  if (data === undefined) {
    return <p className="loading">Looking for files…</p>;
  }
  const files = data?.artifacts ?? [];
  const numOutputs = files.filter((file) => file.is_output).length;
  return (
    <section aria-labelledby="files-title">
      <h2 id="files-title">Files</h2>
      {files.length === 0 ? (
        <p className="of">
          {isPooled
            ? "There are none to show. A warm worker leaves only the result, and what a chore printed or raised."
            : "There are none yet."}
        </p>
      ) : (
        <ScrollTable label="All files">
          <thead>
            <tr>
              <th scope="col">name</th>
              <th scope="col">kind</th>
              <th scope="col" className="number">
                size
              </th>
              <th scope="col">changed</th>
            </tr>
          </thead>
          <tbody>
            {files.map((file) => (
              <tr key={`${file.is_output ? "output" : "file"}:${file.name}`}>
                <th scope="row" className="name">
                  {file.problem === null && file.size !== null ? (
                    <a href={downloadUrl(runId, choreId, attempt, file)} download>
                      {file.name}
                    </a>
                  ) : (
                    file.name
                  )}
                </th>
                <td>{file.is_output ? "output" : "record"}</td>
                <td className="number">
                  {file.size === null ? "–" : <span title={`${file.size} B`}>{formatBytes(file.size)}</span>}
                </td>
                <td>
                  {file.problem ?? (file.modified_at === null ? "–" : formatInstantOf(file.modified_at))}
                </td>
              </tr>
            ))}
          </tbody>
        </ScrollTable>
      )}
      {data !== null && data.num_outputs > numOutputs && (
        <p className="more">
          {numOutputs} of {data.num_outputs} declared outputs are listed.
        </p>
      )}
    </section>
  );
}
