export function TimelinePage() {
  return <h2>Timeline</h2>;
}
