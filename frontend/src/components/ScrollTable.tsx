import type { ReactNode } from "react";

interface ScrollTableProps {
  label: string;
  /** Of the table. */
  className?: string;
  children: ReactNode;
}

/** A table that scrolls sideways where it is too narrow, by keyboard too. */
export function ScrollTable({ label, className, children }: ScrollTableProps) {
  return (
    <div className="scroll" role="region" aria-label={label} tabIndex={0}>
      <table className={className}>{children}</table>
    </div>
  );
}
