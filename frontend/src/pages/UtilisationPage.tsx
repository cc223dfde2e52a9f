export function UtilisationPage() {
  return <h2>Utilisation</h2>;
}
