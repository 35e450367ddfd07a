// Made by scripts/messages.mjs from docs/api/messages.schema.json, sha256 9c6bb3ef2ef5af6950cacba9b3909e0b7fb47f66a2c5287991656c46cd1183d7. Do not edit.

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

/** How complete the answer is that an alert was judged by. */
export interface AlertCompleteness {
  readonly complete: boolean;
  readonly why: string;
}

/** An alert that is pending or fires. */
export interface Alert {
  readonly alertname: string;
  readonly rule: number;
  readonly state: "pending" | "firing";
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly value: number | string;
  readonly active_at: string;
  readonly fired_at: string | null;
  readonly completeness: AlertCompleteness;
  readonly error: string | null;
}

/** A rule, and how it is. */
export interface AlertRule {
  readonly id: number;
  readonly group: string;
  readonly name: string;
  readonly file: string;
  readonly expr: string;
  readonly state: "running" | "waiting" | "error" | "failed";
  readonly for_ns: number;
  readonly keep_firing_for_ns: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly pending: number;
  readonly firing: number;
  readonly evaluated_at: string | null;
  readonly incomplete: string;
  readonly last_error: string;
}

/** Who is told of alerts, and how that goes. */
export interface AlertReceiver {
  readonly name: string;
  readonly type: string;
  readonly to: string;
  readonly state: "running" | "retrying";
  readonly waiting: number;
  readonly sent: number;
  readonly lost: number;
  readonly refused: number;
  readonly errors: number;
  readonly last_error: string;
}

/** What happened to an alert. */
export interface AlertHappened {
  readonly at: string;
  readonly what: "pending" | "firing" | "resolved" | "retracted";
  readonly alertname: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number | string;
}

/** Alerts, rules and receivers; `GET /api/v1/alerts` answers without the last two. */
export interface AlertsStatus {
  readonly alerts: readonly Alert[];
  readonly rules: readonly AlertRule[];
  readonly receivers: readonly AlertReceiver[];
  readonly state_error: string;
  readonly alerts_total?: number;
  readonly history?: readonly AlertHappened[];
}

/** What a rule would have done over times of the past, as `POST /api/v1/alerts/preview` answers. */
export interface RulePreview {
  readonly looks: number;
  readonly incomplete: number;
  readonly fired: number;
  readonly firing: number;
  readonly errors: number;
  readonly last_error: string;
  readonly [member: string]: unknown;
}

/** A sink, and how it is. */
export interface SinkStatus {
  readonly name: string;
  readonly type: string;
  readonly target?: string;
  readonly state: "running" | "retrying" | "full" | "failed";
  readonly acked?: string | null;
  readonly frontier?: string | null;
  readonly buffer_bytes?: number;
  readonly rows_sent?: number;
  readonly rows_lost?: number;
  readonly ends_with_loss?: number;
  readonly lost_since?: string | null;
  readonly last_error?: string;
  readonly [member: string]: unknown;
}

/** All sinks. */
export interface SinksStatus {
  readonly sinks: readonly SinkStatus[];
}

/** What something of the server is, to who subscribed with `status`; a later one takes its place. */
export interface StatusMessage {
  readonly type: "status";
  readonly id: string;
  readonly status: "alerts" | "sinks";
  readonly value: AlertsStatus | SinksStatus;
}

export type ServerMessage = SchemaMessage | ChangesMessage | ProgressMessage | ErrorMessage | EndMessage | StatusMessage;

/** An argument of a script, as `GET /api/v1/scripts` lists it. */
export interface ScriptArg {
  readonly name: string;
  readonly type: string;
  readonly description: string;
  readonly default?: string;
  readonly validValues?: readonly string[];
}
