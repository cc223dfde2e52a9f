import { isRouteErrorResponse, Link, useRouteError } from "react-router";

/** What stands where no page does, or where one broke. */
export function MissingPage() {
  const error = useRouteError();
  // React Router has null where nothing broke and an address is just not known.
  const isFault = error != null && !isRouteErrorResponse(error);
  return (
    <section>
      <h1>{isFault ? "This page broke" : "There is no such page"}</h1>
      <p>
        {isFault
          ? `The page made a mistake: ${error instanceof Error ? error.message : "unknown"}. Reload it; if it happens again, it is worth a report.`
          : "The address may be cut, or of another version."}
      </p>
      <p>
        <Link to="/">To the runs</Link>
      </p>
    </section>
  );
}
