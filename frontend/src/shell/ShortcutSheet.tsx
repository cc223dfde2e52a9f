import { useRef } from "react";

import { useShortcut, useShortcuts } from "./shortcuts";

/** The button and the key `?`, which list what the keyboard can do here. */
export function ShortcutSheet() {
  const sheet = useRef<HTMLDialogElement>(null);
  const shortcuts = useShortcuts();
  const open = () => sheet.current?.showModal();
  useShortcut("Shift+?", "Show this sheet", open);
  return (
    <>
      <button type="button" className="icon-button" aria-label="Keyboard shortcuts" title="Keyboard shortcuts (?)" onClick={open}>
        ?
      </button>
      <dialog ref={sheet} className="sheet" aria-labelledby="shortcuts-title">
        <h2 id="shortcuts-title">Keyboard shortcuts</h2>
        <dl>
          {shortcuts.map(({ keys, does }) => (
            <div key={keys}>
              <dt>
                {keys.split(" ").map((key, place) => (
                  <kbd key={place}>{key.replace("Shift+", "")}</kbd>
                ))}
              </dt>
              <dd>{does}</dd>
            </div>
          ))}
        </dl>
        <form method="dialog">
          <button type="submit">Close</button>
        </form>
      </dialog>
    </>
  );
}
