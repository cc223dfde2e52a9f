/** The providers that every page stands on, and the router. */
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { useState } from "react";
import { createHashRouter, RouterProvider } from "react-router";

import { ApiError } from "./api/client";
import { routes } from "./routes";

export function App() {
  const [client] = useState(makeQueryClient);
  // Made when the token has left the address, or that would be taken for the address of a page. The
  // path stays that of the server, so the page works below any prefix that a proxy gives it.
  const [router] = useState(() => createHashRouter(routes));
  return (
    <QueryClientProvider client={client}>
      <RouterProvider router={router} />
    </QueryClientProvider>
  );
}

/** Answers are renewed by the stream of their run, and do not age by themselves. */
export function makeQueryClient(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        staleTime: Infinity,
        refetchOnWindowFocus: false,
        // What the server refuses it refuses again; a tunnel that was cut may come back.
        retry: (count, error) => !(error instanceof ApiError) && count < 2,
      },
    },
  });
}
