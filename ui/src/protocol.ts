// The shapes that the server speaks (docs: the live messages and the HTTP API). Types only, and the
// one place where incoming text becomes a typed message. No behaviour beyond that.
import { parseLossless } from "./lossless";

export type DataType = "BOOLEAN" | "INT64" | "FLOAT64" | "STRING" | "TIME64NS" | "UINT128";
export type Value = boolean | number | bigint | string;
export type Row = Readonly<Record<string, Value>>;

export interface Column {
  readonly name: string;
  readonly type: DataType;
  readonly semantic: string;
  readonly desc: string;
}

export interface DisplaySpec {
  readonly "@type"?: string;
  readonly [field: string]: unknown;
}
export interface WidgetFunc {
  readonly name: string;
  readonly args?: readonly { readonly name: string; readonly variable?: string; readonly value?: string }[];
}
export interface VisWidget {
  readonly name?: string;
  readonly position?: { readonly x?: number; readonly y?: number; readonly w?: number; readonly h?: number };
  readonly globalFuncOutputName?: string;
  readonly func?: WidgetFunc;
  readonly displaySpec?: DisplaySpec;
}
export interface VisVariable {
  readonly name: string;
  readonly type: string;
  readonly description?: string;
  readonly defaultValue?: string;
  readonly validValues?: readonly string[];
}
export interface Vis {
  readonly variables?: readonly VisVariable[];
  readonly globalFuncs?: readonly { readonly outputName: string; readonly func: WidgetFunc }[];
  readonly widgets?: readonly VisWidget[];
}

export interface Diagnostic {
  readonly code: string;
  readonly severity: "error" | "warning";
  readonly message: string;
  readonly file?: string;
  readonly line: number;
  readonly column: number;
  readonly end_line: number;
  readonly end_column: number;
  readonly label?: string;
  readonly hint?: string;
}

export interface SchemaMessage {
  readonly type: "schema";
  readonly id: string;
  readonly table: string;
  readonly columns: readonly Column[];
  readonly key: readonly string[];
  readonly window?: { readonly from: string; readonly pane_ms: number } | null;
  readonly widgets: readonly VisWidget[];
}
export type Change = readonly [diff: number, row: Row];
export interface ChangesMessage {
  readonly type: "changes";
  readonly id: string;
  readonly table: string;
  readonly tick: string;
  readonly rows: readonly Change[];
  readonly snapshot: boolean;
}
export interface Completeness {
  readonly frontier: string;
  readonly complete_to: string;
  readonly covers_from: string;
  readonly complete: boolean;
  readonly lagging: readonly string[];
  readonly lost: Readonly<Record<string, Readonly<Record<string, number | bigint>>>>;
}
export interface ProgressMessage extends Completeness {
  readonly type: "progress";
  readonly id: string;
}
export interface ErrorMessage {
  readonly type: "error";
  readonly id: string;
  readonly table?: string;
  readonly code: string;
  readonly message: string;
  readonly diagnostics?: readonly Diagnostic[];
}
export interface EndMessage {
  readonly type: "end";
  readonly id: string;
  readonly reason: string;
}
export type ServerMessage = SchemaMessage | ChangesMessage | ProgressMessage | ErrorMessage | EndMessage;

export interface Request {
  readonly script?: string;
  readonly text?: string;
  /** The text's vis file, as JSON text. */
  readonly vis?: string;
  readonly func?: string;
  readonly args?: Readonly<Record<string, string>>;
}

export interface ScriptArg {
  readonly name: string;
  readonly type: string;
  readonly default?: string;
  readonly description?: string;
  readonly valid_values?: readonly string[];
}
export interface ScriptInfo {
  readonly name: string;
  readonly short?: string;
  readonly long?: string;
  readonly args?: readonly ScriptArg[];
  readonly has_vis?: boolean;
}
export interface ScriptText {
  readonly name: string;
  readonly pxl: string;
  readonly vis?: Vis | null;
  readonly short?: string;
  readonly long?: string;
}
export interface DoctorReport {
  readonly checks: readonly { readonly name: string; readonly ok: boolean; readonly detail: string }[];
  readonly can_capture: boolean;
  readonly hint?: string;
}
export interface TableInfo {
  readonly name: string;
  readonly desc?: string;
  readonly columns: readonly Column[];
}

const KINDS = new Set(["schema", "changes", "progress", "error", "end"]);

/** Reads one websocket message; `null` for a kind that this client does not know (newer servers may add some). */
export function readMessage(text: string): ServerMessage | null {
  const message = parseLossless(text) as { type?: unknown; id?: unknown };
  if (typeof message !== "object" || message === null) return null;
  if (typeof message.type !== "string" || !KINDS.has(message.type)) return null;
  return message as unknown as ServerMessage;
}
