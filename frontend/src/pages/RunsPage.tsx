export function RunsPage() {
  return <h2>Runs</h2>;
}
