import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { startSession } from "./api/client";
import { App } from "./App";
import { restoreTheme } from "./shell/theme";
import "./style/tokens.css";
import "./style/page.css";
import "./style/shell.css";

const container = document.getElementById("root");
if (container === null) {
  throw new Error("index.html has no element with the id root");
}
const root = createRoot(container);
restoreTheme();

function show() {
  root.render(
    <StrictMode>
      <App />
    </StrictMode>,
  );
}

// Where the exchange fails, the page's first question fails alike and says why.
startSession().then(show, show);
