// The shapes that the server speaks: messages as the published schema has them (messages.ts is made of it), and
// the rest of the HTTP API. Types only, and the one place where incoming text becomes a typed message.
import { parseLossless } from "./lossless";
import type { Column, DisplaySpec, ProgressMessage, ScriptArg, ServerMessage } from "./messages";

export type {
  Change, ChangesMessage, Column, DataType, Diagnostic, DisplaySpec, EndMessage, ErrorMessage, ProgressMessage, Row,
  SchemaMessage, ScriptArg, ServerMessage, Value,
} from "./messages";
export type Completeness = Omit<ProgressMessage, "type" | "id">;

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

export interface Request {
  /** Not a script's answer, but what something of the server is. */
  readonly status?: "alerts" | "sinks";
  readonly script?: string;
  readonly text?: string;
  /** The text's vis file, as JSON text. */
  readonly vis?: string;
  readonly func?: string;
  readonly args?: Readonly<Record<string, string>>;
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

const KINDS = new Set(["schema", "changes", "progress", "error", "end", "status"]);

/** Reads one websocket message; `null` for a kind that this client does not know (newer servers may add some). */
export function readMessage(text: string): ServerMessage | null {
  const message = parseLossless(text) as { type?: unknown; id?: unknown };
  if (typeof message !== "object" || message === null) return null;
  if (typeof message.type !== "string" || !KINDS.has(message.type)) return null;
  return message as unknown as ServerMessage;
}
