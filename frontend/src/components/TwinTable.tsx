import { useState, type ReactNode } from "react";

import "./TwinTable.css";

/** What a drawing shows, as a table: closed until asked for, and only then on the page. */
export function TwinTable({ children }: { children: ReactNode }) {
  const [isOpen, setIsOpen] = useState(false);
  return (
    <details
      className="twin"
      onToggle={(event) => {
        setIsOpen(event.currentTarget.open);
      }}
    >
      <summary>As a table</summary>
      {isOpen && children}
    </details>
  );
}
