export function ChorePage() {
  return <h2>Chore</h2>;
}
