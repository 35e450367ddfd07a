// The frame of the list pages, and a table for records whose fields the server decides.
import { useEffect, type ReactNode } from "react";
import type { JsonObject } from "../api";
import { stringifyLossless } from "../lossless";
import { bytes, duration, grouped, joined, toNumber } from "../format/numbers";
import { dateClock, timeMs } from "../format/time";
import { scriptLink } from "../route";
import { useShell } from "../shell/context";
import css from "./pages.module.css";

export function ListPage({ title, note, error, children }: { readonly title: string; readonly note: string; readonly error: Error | null; readonly children: ReactNode }): ReactNode {
  useEffect(() => { document.title = `${title} · Weir`; }, [title]);
  return (
    <main className={css.page} data-testid={`page-${title.toLowerCase()}`}>
      <h1>{title}</h1>
      <p className={css.note}>{note}</p>
      {error !== null && <p className={css.error} role="alert">Not up to date: {error.message}.</p>}
      {children}
    </main>
  );
}

/** Named fields first, then whatever else there is; units by the ends of names. */
export function RecordTable({ records, first, empty }: { readonly records: readonly JsonObject[] | null; readonly first: readonly string[]; readonly empty: string }): ReactNode {
  if (records === null) return null;
  if (records.length === 0) return <p className={css.none}>{empty}</p>;
  const all = new Set(records.flatMap((record) => Object.keys(record)));
  const names = [...first.filter((name) => all.has(name)), ...[...all].filter((name) => !first.includes(name))];
  return (
    <div className={css.wide}>
      <table className={css.records}>
        <thead><tr>{names.map((name) => <th key={name} data-right={records.some((record) => isNumber(record[name]))}>{name.replace(/_(ns|ms|bytes|unix_ns)$/, "").replaceAll("_", " ")}</th>)}</tr></thead>
        <tbody>
          {records.map((record, at) => (
            <tr key={`${String(record["id"] ?? record["name"] ?? "")} ${at}`}>
              {names.map((name) => <td key={name} data-right={isNumber(record[name])}><Field name={name} value={record[name]} /></td>)}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

const isNumber = (value: unknown): boolean => typeof value === "number" || typeof value === "bigint";

function Field({ name, value }: { readonly name: string; readonly value: unknown }): ReactNode {
  const { scripts } = useShell();
  if (value === undefined || value === null || value === "") return <span className={css.faint}>–</span>;
  if (isNumber(value)) {
    if (name.endsWith("_unix_ns")) return dateClock(toNumber(value) / 1e6);
    if (name.endsWith("_ns")) return joined(duration(toNumber(value)));
    if (name.endsWith("_ms")) return joined(duration(toNumber(value) * 1e6));
    if (name === "bytes" || name.endsWith("_bytes")) return joined(bytes(toNumber(value)));
    return grouped(value as number | bigint);
  }
  if (typeof value === "string") {
    if ((name === "script" || name === "name") && scripts.some((script) => script.name === value)) return <a href={scriptLink(value)}>{value}</a>;
    return Number.isFinite(timeMs(value)) ? dateClock(timeMs(value)) : value;
  }
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value) && value.every((each) => typeof each === "string")) return value.join(", ") || <span className={css.faint}>–</span>;
  const states = statesText(value);
  if (states !== "") return states;
  const text = stringifyLossless(value);
  return text === "{}" || text === "[]" ? <span className={css.faint}>–</span> : <code>{text}</code>;
}

/** `[{"name":"ebpf","state":"running"},…]` in words. */
function statesText(value: unknown): string {
  if (!Array.isArray(value)) return "";
  const parts = value.map((each) => {
    const { name, state } = (each ?? {}) as { name?: unknown; state?: unknown };
    return typeof name === "string" && typeof state === "string" ? `${name} ${state}` : null;
  });
  return parts.length === 0 || parts.includes(null) ? "" : parts.join(", ");
}
