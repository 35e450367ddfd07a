// JSON as a tree that opens and closes; bounded in depth and width, because bodies come from outside.
import { useState, type ReactNode } from "react";
import css from "./details.module.css";

const DEPTH_MAX = 24;
const CHILDREN_MAX = 200;
const OPEN_DEPTH = 2;

export function JsonTree({ value, depth = 0 }: { readonly value: unknown; readonly depth?: number }): ReactNode {
  const [open, setOpen] = useState(depth < OPEN_DEPTH);
  if (typeof value !== "object" || value === null) {
    const kind = value === null ? "null" : typeof value;
    return <span className={css.scalar} data-kind={kind}>{kind === "string" ? JSON.stringify(value) : String(value)}</span>;
  }
  const entries = Object.entries(value);
  const [before, after] = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
  if (entries.length === 0) return <span className={css.scalar}>{before}{after}</span>;
  if (depth >= DEPTH_MAX) return <span className={css.faint}>nested deeper than is shown</span>;
  return (
    <span className={css.tree}>
      <button type="button" className={css.twist} aria-expanded={open} onClick={() => setOpen(!open)}>
        {open ? "▾" : "▸"} {before}{!open && `${entries.length}${after}`}
      </button>
      {open && (
        <>
          <ul>
            {entries.slice(0, CHILDREN_MAX).map(([name, each]) => (
              <li key={name}>{!Array.isArray(value) && <span className={css.key}>{name}: </span>}<JsonTree value={each} depth={depth + 1} /></li>
            ))}
            {entries.length > CHILDREN_MAX && <li className={css.faint}>and {entries.length - CHILDREN_MAX} more</li>}
          </ul>
          {after}
        </>
      )}
    </span>
  );
}
