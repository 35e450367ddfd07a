// What the page knows of a rule that is not there yet: what the server is asked, and how its findings are told.
import type { RulePreview } from "../messages";
import type { Diagnostic } from "../protocol";

/** What the server answers of a draft: each of its alert rules, and the text of the rule file that it is. */
export interface DraftPreview {
  readonly rules: readonly (RulePreview & {
    readonly rule: string;
    readonly events: readonly { readonly at: string; readonly what: string; readonly labels: Readonly<Record<string, string>>; readonly value: unknown }[];
  })[];
  readonly text: string;
}

export interface Draft {
  readonly mode: "script" | "rules";
  /** PxL that displays one table. */
  readonly text: string;
  /** A condition over its columns. */
  readonly when: string;
  readonly hold: string;
  /** The text of a rule file. */
  readonly rules: string;
}

export const EMPTY: Draft = {
  mode: "script",
  text: `import px
df = px.DataFrame('http_events', start_time='-1m')
df = df[df.trace_role == 2]
df.service = df.ctx['service']
df.failed = px.select(df.resp_status >= 500, 1.0, 0.0)
df = df.groupby('service').agg(error_rate=('failed', px.mean))
px.display(df)
`,
  when: "error_rate > 0.05",
  hold: "30s",
  rules: `groups:
- name: draft
  rules:
  - alert: Draft
    expr: |
      import px
      df = px.DataFrame('http_events', start_time='-1m')
      df = df.groupby('req_path').agg(value=('latency', px.count))
      px.display(df[df.value > 100])
    for: 30s
`,
};

/** What `POST /api/v1/alerts/preview` is sent. */
export const asked = (draft: Draft): Readonly<Record<string, string>> =>
  draft.mode === "rules"
    ? { rules: draft.rules }
    : { text: draft.text, when: draft.when, ...(draft.hold.trim() === "" ? {} : { for: draft.hold.trim() }) };

export const isReady = (draft: Draft): boolean =>
  draft.mode === "rules" ? draft.rules.trim() !== "" : draft.text.trim() !== "" && draft.when.trim() !== "";

/** Where a finding is, in the reader's words; the condition and the duration are one line each. */
export function placeOf({ file, line, column }: Diagnostic): string {
  if (file === "when") return "condition";
  if (file === "for") return "for";
  const part = file === "script" ? "script" : "rule file";
  return line > 0 ? `${part}, line ${line}, column ${Math.max(column, 1)}` : part;
}

/** From and to of a line of a text, counted from 1; the last line for those behind it. */
export function lineRange(text: string, line: number): [number, number] {
  const lines = text.split("\n");
  const idx = Math.min(Math.max(line, 1), lines.length) - 1;
  const from = lines.slice(0, idx).reduce((sum, each) => sum + each.length + 1, 0);
  return [from, from + (lines[idx] ?? "").length];
}
