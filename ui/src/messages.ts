// Made by scripts/messages.mjs from docs/api/messages.schema.json, sha256 905ac4f37121744ce79c340fb7c5ee7ae525b1c1b2bb8e2026d6b1cd2e47536b. Do not edit.

export type DataType = "BOOLEAN" | "INT64" | "FLOAT64" | "STRING" | "TIME64NS" | "UINT128";

/** BOOLEAN; INT64 with all its digits; FLOAT64, or NaN, Infinity and -Infinity as text; STRING; TIME64NS as RFC 3339 with nine digits; UINT128 as UUID text. */
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
  readonly [member: string]: unknown;
}

export interface Position {
  readonly x?: number;
  readonly y?: number;
  readonly w?: number;
  readonly h?: number;
}

export interface PlacedWidget {
  readonly name?: string;
  readonly position?: Position;
  readonly displaySpec?: DisplaySpec;
}

/** Lines and columns count from 1, columns in characters; all four are 0 without a place to point at. */
export interface Diagnostic {
  readonly code: string;
  readonly severity: "error" | "warning";
  readonly message: string;
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly end_line: number;
  readonly end_column: number;
  readonly label: string;
  readonly hint: string;
}

export interface WindowInfo {
  readonly from: string;
  readonly pane_ms: number;
}

export interface SchemaMessage {
  readonly type: "schema";
  readonly id: string;
  readonly table: string;
  readonly columns: readonly Column[];
  readonly key: readonly string[];
  readonly window: WindowInfo | null;
  readonly widgets: readonly PlacedWidget[];
}

/** How often a row came, or, below zero, went. */
export type Change = readonly [number, Row];

export interface ChangesMessage {
  readonly type: "changes";
  readonly id: string;
  readonly table: string;
  readonly tick: string;
  readonly rows: readonly Change[];
  readonly snapshot: boolean;
}

export type LostOfTable = Readonly<Record<string, number | bigint>>;

export type Lost = Readonly<Record<string, LostOfTable>>;

export interface ProgressMessage {
  readonly type: "progress";
  readonly id: string;
  readonly frontier: string;
  readonly complete_to: string;
  readonly covers_from: string;
  readonly complete: boolean;
  readonly lagging: readonly string[];
  readonly lost: Lost;
}

export interface ErrorMessage {
  readonly type: "error";
  readonly id: string;
  readonly table?: string;
  readonly code: string;
  readonly message: string;
  readonly diagnostics: readonly Diagnostic[];
}

export interface EndMessage {
  readonly type: "end";
  readonly id: string;
  readonly reason: string;
}

export type ServerMessage = SchemaMessage | ChangesMessage | ProgressMessage | ErrorMessage | EndMessage;

/** An argument of a script, as `GET /api/v1/scripts` lists it. */
export interface ScriptArg {
  readonly name: string;
  readonly type: string;
  readonly description: string;
  readonly default?: string;
  readonly validValues?: readonly string[];
}
