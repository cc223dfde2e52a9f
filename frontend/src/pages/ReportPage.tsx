export function ReportPage() {
  return <h2>Report</h2>;
}
