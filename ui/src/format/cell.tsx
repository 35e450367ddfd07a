// One cell, drawn by its semantic type.
import { memo, type ReactNode } from "react";
import type { Column, Value } from "../protocol";
import { scriptLink } from "../route";
import { StatusMark } from "../shell/icons";
import { entityScript, useShell } from "../shell/context";
import { hue } from "../hues";
import { joined, quantity, toNumber } from "./numbers";
import {
  entityText, formatNumber, httpStatusClass, isNumeric, isQuantiles, parseQuantiles, parseScriptReference, plainText, stateOf, upidText,
} from "./semantic";
import css from "./cell.module.css";

const ENTITIES = new Set(["SERVICE_NAME", "POD_NAME", "NAMESPACE_NAME", "NODE_NAME"]);
const STATES = new Set(["POD_STATUS", "POD_PHASE", "CONTAINER_STATE", "CONTAINER_STATUS"]);

/** Logarithmic, so that a service of microseconds and one of seconds are both legible. */
export interface Scale {
  readonly low: number;
  readonly high: number;
}
export interface CellProps {
  readonly value: Value | undefined;
  readonly column: Column;
  /** The common scale of the column's strips. */
  readonly scale?: Scale | undefined;
}

export const Cell = memo(function Cell({ value, column, scale }: CellProps): ReactNode {
  if (value === undefined) return null;
  if (column.semantic === "HTTP_RESP_STATUS" && isNumeric(column)) {
    return <span className={css.status}><StatusMark status={httpStatusClass(toNumber(value))} />{String(value)}</span>;
  }
  if (isNumeric(column)) {
    const { text, unit } = formatNumber(value, column);
    const zero = toNumber(value) === 0;
    return <span className={zero ? css.zero : undefined}>{text}{unit !== "" && <span className={css.unit}>{unit}</span>}</span>;
  }
  if (column.type === "TIME64NS") return <span className={css.time}>{plainText(value, column)}</span>;
  if (typeof value === "boolean") return <span className={value ? undefined : css.zero}>{value ? "yes" : "no"}</span>;
  if (isQuantiles(column)) return <QuantileStrip value={value} column={column} scale={scale} />;
  if (column.semantic === "SCRIPT_REFERENCE") return <ReferenceLink value={value} />;
  if (column.semantic === "UPID") return <span className={css.mono}>{upidText(String(value))}</span>;
  if (ENTITIES.has(column.semantic)) return <EntityName value={value} semantic={column.semantic} />;
  if (STATES.has(column.semantic)) {
    const { text, status } = stateOf(value);
    return <span className={css.status}><StatusMark status={status} />{text}</span>;
  }
  const text = String(value);
  const isCode = text.startsWith("{") || text.startsWith("[") || text.startsWith("/");
  return <span className={isCode ? css.mono : undefined}>{text.length > 400 ? `${text.slice(0, 400)}…` : text}</span>;
});

function ReferenceLink({ value }: { readonly value: Value }): ReactNode {
  const reference = parseScriptReference(value);
  const shell = useShell();
  if (reference === null) return String(value);
  if (!shell.scripts.some((script) => script.name === reference.script)) return reference.label;
  return (
    <a href={scriptLink(reference.script, reference.args)} title={`open ${reference.script}`} onClick={(event) => event.stopPropagation()}>
      {reference.label}
    </a>
  );
}

export function EntityName({ value, semantic }: { readonly value: Value; readonly semantic: string }): ReactNode {
  const shell = useShell();
  const name = entityText(value);
  const slash = name.indexOf("/");
  const text = slash > 0 ? <><span className={css.namespace}>{name.slice(0, slash + 1)}</span>{name.slice(slash + 1)}</> : name;
  const target = entityScript(shell, semantic, name);
  const dot = semantic === "SERVICE_NAME" && name !== "" ? <span className={css.dot} style={{ background: hue(name) }} /> : null;
  if (target === null) return <span className={css.entity}>{dot}{text}</span>;
  return (
    <span className={css.entity}>
      {dot}
      <a className={css.entityLink} href={scriptLink(target.script, target.args)} title={`open ${target.script}`} onClick={(event) => event.stopPropagation()}>{text}</a>
    </span>
  );
}

const STRIP_PX = 116;

/** Whiskers p01 and p99, box p25 to p75, a tick at p50; all rows of a column on one logarithmic scale. */
export function QuantileStrip({ value, column, scale }: { readonly value: Value; readonly column: Column; readonly scale: Scale | undefined }): ReactNode {
  const q = parseQuantiles(value);
  if (q === null) return <span className={css.zero}>{String(value)}</span>;
  const { low, high } = scale ?? { low: Math.max(q.p01, q.p99 / 1000), high: q.p99 };
  const span = Math.log(high / low);
  const x = (mark: number): number => 2 + (span > 0 && mark > 0 ? Math.max(0, Math.min(1, Math.log(mark / low) / span)) * STRIP_PX : 0);
  const title = `${Object.entries(q).map(([mark, each]) => `${mark} ${joined(quantity(each as number, column.semantic))}`).join("   ")}\nlogarithmic, ${joined(quantity(low, column.semantic))} to ${joined(quantity(high, column.semantic))}`;
  return (
    <span className={css.strip}>
      <svg width="120" height="14" viewBox="0 0 120 14" role="img" aria-label={title}>
        <title>{title}</title>
        <path d="M2 7H118" className={css.rule} />
        <path d={`M${x(q.p01)} 7H${x(q.p99)}M${x(q.p01)} 4v6M${x(q.p99)} 4v6`} className={css.whisker} />
        <rect x={x(q.p25)} y="2.5" width={Math.max(1.5, x(q.p75) - x(q.p25))} height="9" rx="1.5" className={css.box} />
        <path d={`M${x(q.p50)} 1.5v11`} className={css.median} />
      </svg>
    </span>
  );
}
