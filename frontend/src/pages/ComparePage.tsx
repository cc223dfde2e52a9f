export function ComparePage() {
  return <h2>Compare</h2>;
}
