export function GraphPage() {
  return <h2>Graph</h2>;
}
