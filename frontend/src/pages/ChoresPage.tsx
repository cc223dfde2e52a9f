export function ChoresPage() {
  return <h2>Chores</h2>;
}
