/** Which page stands under which address. Pages are loaded when they are opened. */
import type { RouteObject } from "react-router";

import { RunLayout } from "./shell/RunLayout";
import { Shell } from "./shell/Shell";
import { MissingPage } from "./pages/MissingPage";

export const routes: RouteObject[] = [
  {
    element: <Shell />,
    errorElement: <MissingPage />,
    hydrateFallbackElement: <p className="loading">Loading…</p>,
    children: [
      { index: true, lazy: async () => ({ Component: (await import("./pages/RunsPage")).RunsPage }) },
      {
        path: "compare",
        lazy: async () => ({ Component: (await import("./pages/ComparePage")).ComparePage }),
      },
      {
        path: "runs/:runId",
        element: <RunLayout />,
        children: [
          {
            index: true,
            lazy: async () => ({ Component: (await import("./pages/OverviewPage")).OverviewPage }),
          },
          {
            path: "chores",
            lazy: async () => ({ Component: (await import("./pages/ChoresPage")).ChoresPage }),
          },
          {
            path: "chores/:choreId",
            lazy: async () => ({ Component: (await import("./pages/ChorePage")).ChorePage }),
          },
          {
            path: "failures",
            lazy: async () => ({ Component: (await import("./pages/FailuresPage")).FailuresPage }),
          },
          {
            path: "graph",
            lazy: async () => ({ Component: (await import("./pages/GraphPage")).GraphPage }),
          },
          {
            path: "timeline",
            lazy: async () => ({ Component: (await import("./pages/TimelinePage")).TimelinePage }),
          },
          {
            path: "utilisation",
            lazy: async () => ({
              Component: (await import("./pages/UtilisationPage")).UtilisationPage,
            }),
          },
          {
            path: "report",
            lazy: async () => ({ Component: (await import("./pages/ReportPage")).ReportPage }),
          },
        ],
      },
      { path: "*", element: <MissingPage /> },
    ],
  },
];
