export function FailuresPage() {
  return <h2>Failures</h2>;
}
