import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { startSession } from "./api/client";
import { RunPage } from "./pages/RunPage";
import "./style.css";

const container = document.getElementById("root");
if (container === null) {
  throw new Error("index.html has no element with the id root");
}
const root = createRoot(container);

function show() {
  root.render(
    <StrictMode>
      <QueryClientProvider client={new QueryClient()}>
        <RunPage />
      </QueryClientProvider>
    </StrictMode>,
  );
}

// Where the exchange fails, the page's first question fails alike and says why.
startSession().then(show, show);
