import { useState } from "react";

import "./CommandLine.css";

/** A command for a shell, with a button that copies it. */
export function CommandLine({ command }: { command: string }) {
  // Only over https and from this computer do browsers give it; by hand it can be copied anywhere.
  const clipboard = navigator.clipboard as Clipboard | undefined;
  const [copied, setCopied] = useState<string | null>(null);
  return (
    <span className="command-line">
      <code>{command}</code>
      {clipboard !== undefined && (
        <button
          type="button"
          onClick={() => {
            void clipboard.writeText(command).then(() => {
              setCopied(command);
            });
          }}
        >
          {copied === command ? "Copied" : "Copy"}
        </button>
      )}
    </span>
  );
}
