// From a column's type and semantic type to what a cell shows. Pure: the drawing is in cell.tsx.
import { parseLossless } from "../lossless";
import type { Column, Value } from "../protocol";
import { grouped, quantity, threeDigits, toNumber, type Quantity } from "./numbers";
import { clock, dateClock, timeMs } from "./time";

export interface ScriptReference {
  readonly label: string;
  readonly script: string;
  readonly args: Readonly<Record<string, string>>;
}
export interface Quantiles {
  readonly p01: number; readonly p10: number; readonly p25: number; readonly p50: number;
  readonly p75: number; readonly p90: number; readonly p99: number;
}

export const isNumeric = (column: Column): boolean => column.type === "INT64" || column.type === "FLOAT64";
export const isQuantiles = (column: Column): boolean => column.semantic.endsWith("QUANTILES");
export const alignsRight = (column: Column): boolean =>
  (isNumeric(column) && column.semantic !== "HTTP_RESP_STATUS") || column.type === "TIME64NS";

/** Numbers that name something: grouping their digits would only make them harder to find again. */
const NAMING = /(^|_)(pid|id|port|asid|line|status|version|stream_id)$/;

export function formatNumber(value: Value, column: Column): Quantity {
  const number = toNumber(value);
  switch (column.semantic) {
    case "DURATION_NS":
    case "BYTES":
    case "PERCENT":
    case "THROUGHPUT_PER_NS":
    case "THROUGHPUT_BYTES_PER_NS":
      return quantity(number, column.semantic);
    case "PORT":
    case "ASID":
    case "HTTP_RESP_STATUS":
      return { text: String(value), unit: "" };
    default:
      break;
  }
  if (column.type === "FLOAT64") return { text: threeDigits(number), unit: "" };
  if (NAMING.test(column.name)) return { text: String(value), unit: "" };
  return { text: typeof value === "bigint" ? grouped(value) : grouped(number), unit: "" };
}

export function parseObject(text: unknown): Record<string, unknown> | unknown[] | null {
  if (typeof text !== "string" || !/^\s*[[{]/.test(text)) return null;
  try {
    const value = parseLossless(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown> | unknown[]) : null;
  } catch {
    return null;
  }
}

export function parseScriptReference(text: Value | undefined): ScriptReference | null {
  const value = parseObject(text);
  if (value === null || Array.isArray(value)) return null;
  const { label, script, args } = value;
  if (typeof label !== "string" || typeof script !== "string") return null;
  const pairs = typeof args === "object" && args !== null ? Object.entries(args) : [];
  return { label, script, args: Object.fromEntries(pairs.map(([name, arg]) => [name, String(arg)])) };
}

const MARKS = ["p01", "p10", "p25", "p50", "p75", "p90", "p99"] as const;
export function parseQuantiles(text: Value | undefined): Quantiles | null {
  const value = parseObject(text);
  if (value === null || Array.isArray(value)) return null;
  const marks = MARKS.map((mark) => toNumber(value[mark]));
  if (marks.some((mark) => !Number.isFinite(mark))) return null;
  return Object.fromEntries(MARKS.map((mark, index) => [mark, marks[index]])) as unknown as Quantiles;
}

/** A service column may hold one name or a JSON array of names. */
export function entityText(value: Value): string {
  const names = parseObject(value);
  return Array.isArray(names) ? names.join(", ") : String(value);
}

/** A UPID is asid(32) pid(32) start ticks(64); people look for the pid. */
export function upidText(uuid: string): string {
  const hex = uuid.replaceAll("-", "");
  if (!/^[0-9a-f]{32}$/.test(hex) || /^0+$/.test(hex)) return "–";
  return `pid ${Number.parseInt(hex.slice(8, 16), 16)}`;
}

export type StatusClass = "ok" | "info" | "warn" | "bad" | "none";
export function httpStatusClass(status: number): StatusClass {
  if (status >= 500) return "bad";
  if (status >= 400) return "warn";
  if (status >= 300) return "info";
  return status >= 100 ? "ok" : "none";
}

const BAD_STATE = /fail|error|crash|oom|evicted|backoff/i;
const GOOD_STATE = /running|ready|succeeded|completed|ok/i;
const WAITING_STATE = /pending|waiting|terminat|creating|unknown/i;

/** POD_STATUS and CONTAINER_STATUS are JSON objects, phases and states plain words. */
export function stateOf(value: Value): { text: string; status: StatusClass } {
  const object = parseObject(value);
  const fields = object !== null && !Array.isArray(object) ? object : null;
  const text = String(fields === null ? value : (fields["phase"] ?? fields["state"] ?? fields["reason"] ?? value));
  if (BAD_STATE.test(text)) return { text, status: "bad" };
  if (WAITING_STATE.test(text)) return { text, status: "warn" };
  return { text, status: GOOD_STATE.test(text) ? "ok" : "none" };
}

/** What a cell says as plain text: for sorting fallbacks, tooltips and copying. */
export function plainText(value: Value | undefined, column: Column): string {
  if (value === undefined) return "";
  if (column.type === "TIME64NS") return clock(timeMs(value), true);
  if (isNumeric(column)) {
    const { text, unit } = formatNumber(value, column);
    return unit === "" ? text : `${text} ${unit}`;
  }
  if (column.semantic === "SCRIPT_REFERENCE") return parseScriptReference(value)?.label ?? String(value);
  if (column.semantic === "UPID" && typeof value === "string") return upidText(value);
  return String(value);
}

export function exactText(value: Value | undefined, column: Column): string {
  if (value === undefined) return "";
  return column.type === "TIME64NS" ? `${dateClock(timeMs(value))} (${String(value)})` : String(value);
}

/** Order of two values of one column: numbers by size, times by instant, the rest by text. */
export function compareValues(a: Value | undefined, b: Value | undefined, column: Column): number {
  if (a === b) return 0;
  if (a === undefined) return -1;
  if (b === undefined) return 1;
  if (column.type === "INT64" && typeof a !== "string" && typeof b !== "string") return a < b ? -1 : 1;
  if (column.type === "FLOAT64") {
    const [x, y] = [toNumber(a), toNumber(b)];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number(Number.isNaN(y)) - Number(Number.isNaN(x));
    return x === y ? 0 : x < y ? -1 : 1;
  }
  if (isQuantiles(column)) return (parseQuantiles(a)?.p99 ?? -1) - (parseQuantiles(b)?.p99 ?? -1);
  // RFC 3339 with nine digits and Z sorts as text.
  const [x, y] = [plainOrder(a, column), plainOrder(b, column)];
  return x < y ? -1 : x > y ? 1 : 0;
}

function plainOrder(value: Value, column: Column): string {
  return column.semantic === "SCRIPT_REFERENCE" ? plainText(value, column) : String(value);
}
