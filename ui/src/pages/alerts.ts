// What the alerts page computes of what it is told.
import { grouped, toNumber } from "../format/numbers";
import type { Alert, AlertReceiver, AlertRule, RulePreview } from "../messages";
import type { Row } from "../protocol";

/** Worst first: firing before pending, then the newest. */
export function inOrder(alerts: readonly Alert[]): Alert[] {
  const since = (alert: Alert): string => alert.fired_at ?? alert.active_at;
  return [...alerts].sort((a, b) => (a.state === b.state ? since(b).localeCompare(since(a)) : a.state === "firing" ? -1 : 1));
}

/** The rule whose alert it is: several, of one group or of two, may have its name. */
export const ruleOf = (alert: Alert, rules: readonly AlertRule[]): AlertRule | undefined =>
  rules.find((rule) => String(rule.id) === String(alert.rule));

/** What tells one alert from all others: two rules may have alerts of equal labels. */
export const alertKey = (alert: Alert): string => `${String(alert.rule)} ${JSON.stringify(labelsOf(alert.labels).sort())}`;

/** What a rule would have done, in a sentence. */
export function previewText(made: RulePreview): string {
  const count = (value: unknown): number => toNumber(value);
  const fired = count(made.fired);
  const times = fired === 0 ? "not have fired" : fired === 1 ? "have fired once" : `have fired ${grouped(fired)} times`;
  const lacks = count(made.incomplete) > 0 ? `, ${grouped(made.incomplete)} of them at answers that are not complete` : "";
  const wrong = count(made.errors) > 0 ? `; ${grouped(made.errors)} gave no alerts: ${made.last_error}` : "";
  return `It would ${times} in the last hour (${grouped(made.looks)} looks${lacks})${wrong}.`;
}

/** Labels without the alert's name, as `name value` pairs. */
export const labelsOf = (labels: Readonly<Record<string, string>>): [string, string][] =>
  Object.entries(labels).filter(([name]) => name !== "alertname");

/** As the server makes labels of columns. */
export const labelName = (column: string): string => {
  const name = column.replace(/[^a-zA-Z0-9_]/gu, "_");
  return name === "" || /^[0-9]/.test(name) ? `_${name}` : name;
};

/** A row that is behind an alert: each text of its that is a label has the alert's value. A rule's own label wins over a column. */
export function isBehind(row: Row, alert: Alert, rule: AlertRule): boolean {
  return Object.entries(row).every(([column, value]) => {
    // What a rule file calls a label keeps its name.
    const name = column in alert.labels || column in rule.labels ? column : labelName(column);
    if (typeof value !== "string" || name in rule.labels) return true;
    const label = alert.labels[name];
    return label === undefined ? value === "" || name === "value" : label === value;
  });
}

const quoted = (text: string): string => `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n")}"`;

/** Where an alert is silenced: the first Alertmanager's own form, filled in. */
export function silenceLink(alert: Alert, receivers: readonly AlertReceiver[]): string | null {
  const manager = receivers.find((receiver) => receiver.type === "alertmanager" && /^https?:\/\/[^…]+$/.test(receiver.to));
  if (manager === undefined) return null;
  // Names that are no plain words are quoted, as Alertmanagers that take them want it.
  const nameText = (name: string): string => (name === labelName(name) ? name : quoted(name));
  const matchers = Object.entries(alert.labels).map(([name, value]) => `${nameText(name)}=${quoted(value)}`);
  return `${manager.to}/#/silences/new?filter=${encodeURIComponent(`{${matchers.join(",")}}`)}`;
}
