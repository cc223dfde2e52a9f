/** What stands on every page: the bar at the top, and the place for the page. */
import { Suspense } from "react";
import { Link, Outlet, useNavigate } from "react-router";

import { useSettings } from "../api/useSettings";
import { ShortcutSheet } from "./ShortcutSheet";
import { ShortcutBoard, useShortcut } from "./shortcuts";
import { ThemeSwitch } from "./ThemeSwitch";

export function Shell() {
  return (
    <ShortcutBoard>
      <a className="skip" href="#main" onClick={skipToMain}>
        Skip to the content
      </a>
      <TopBar />
      <main id="main" tabIndex={-1}>
        <Suspense fallback={<p className="loading">Loading…</p>}>
          <Outlet />
        </Suspense>
      </main>
    </ShortcutBoard>
  );
}

function TopBar() {
  const settings = useSettings();
  const navigate = useNavigate();
  useShortcut("g r", "Go to the runs", () => void navigate("/"));
  return (
    <header className="top-bar">
      <Link className="brand" to="/">
        MatEnsemble
      </Link>
      <span className="root" title="What this dashboard was started for">
        {settings?.root}
      </span>
      <div className="top-actions">
        <ThemeSwitch />
        <ShortcutSheet />
      </div>
    </header>
  );
}

/** The fragment is the router's, so the browser cannot jump there by itself. */
function skipToMain(event: React.MouseEvent): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}
