// What fires and what may: alerts with the rows behind them, the rules, what happened, and who is told.
import { useState, type ReactNode } from "react";
import type { Alert, AlertHappened, AlertReceiver, AlertRule } from "../messages";
import { api } from "../api";
import { setScratch } from "../editor/scratch";
import { plainText } from "../format/semantic";
import { duration, grouped, joined, threeDigits, toNumber } from "../format/numbers";
import { dateClock, timeMs } from "../format/time";
import { useNow, useTableVersion } from "../hooks";
import { useSession } from "../live/useSession";
import { useStatus } from "../live/useStatus";
import type { TableStore } from "../live/table-store";
import { navigate } from "../route";
import { StatusMark } from "../shell/icons";
import { alertKey, inOrder, isBehind, labelsOf, previewText, ruleOf, silenceLink } from "./alerts";
import { DraftRule } from "./DraftRule";
import { ListPage } from "./ListPage";
import css from "./pages.module.css";
import own from "./alerts.module.css";

/** Rows behind an alert that are drawn; a rule's rows are its alerts, so there is one as a rule. */
const ROWS_MAX = 20;
const HISTORY_SHOWN = 100;

const number = (value: unknown): string => {
  const read = toNumber(value);
  return Number.isFinite(read) ? threeDigits(read) : String(value);
};
const at = (text: string | null | undefined): string => (Number.isFinite(timeMs(text)) ? dateClock(timeMs(text)) : "–");

/** How long something is so, in whole seconds and the largest two units. */
function since(text: string, nowMs: number): string {
  const seconds = Math.max(0, Math.floor((nowMs - timeMs(text)) / 1000));
  if (!Number.isFinite(seconds)) return "–";
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  return minutes > 0 ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
}

export function AlertsPage(): ReactNode {
  const { value, error } = useStatus("alerts");
  const alerts = inOrder(value?.alerts ?? []);
  const rules = value?.rules ?? [];
  const firing = alerts.filter((alert) => alert.state === "firing").length;
  const total = toNumber(value?.alerts_total ?? alerts.length);
  return (
    <ListPage title="Alerts" note="Rows of alert rules are alerts: they fire when a rule becomes true and resolve when it no longer is." error={error}>
      {value !== null && value.state_error !== "" && <p className={css.error} role="alert">{value.state_error}</p>}
      {value !== null && rules.length > 0 && (
        <div className={css.figures}>
          <Figure name="firing" text={grouped(firing)} status={firing > 0 ? "bad" : "ok"} />
          <Figure name="pending" text={grouped(alerts.length - firing)} status={alerts.length > firing ? "warn" : "ok"} />
          <Figure name="rules" text={grouped(rules.length)} status={rules.some((rule) => rule.state !== "running") ? "warn" : "ok"} />
        </div>
      )}
      {value !== null && rules.length === 0 && (
        <p className={css.none} data-testid="alerts-none">
          No alert rules. Name their files in the configuration, <code>rules: [alerts/*.yml]</code>, and start with <code>weir up --config weir.yaml</code>; they are read again when they change.
        </p>
      )}
      {value !== null && rules.length > 0 && alerts.length === 0 && <p className={own.quiet}><StatusMark status="ok" />Nothing fires.</p>}
      {total > alerts.length && <p className={css.none}>{grouped(alerts.length)} of {grouped(total)} are shown.</p>}
      {alerts.length > 0 && <AlertTable alerts={alerts} rules={rules} receivers={value?.receivers ?? []} />}
      {rules.length > 0 && <Rules rules={rules} />}
      {value !== null && <DraftRule />}
      {value !== null && value.receivers.length > 0 && <Receivers receivers={value.receivers} />}
      {(value?.history ?? []).length > 0 && <HistoryTable history={value?.history ?? []} />}
    </ListPage>
  );
}

function Figure({ name, text, status }: { readonly name: string; readonly text: string; readonly status: "ok" | "warn" | "bad" }): ReactNode {
  return <div><b><StatusMark status={status} size={12} /> {text}</b><span>{name}</span></div>;
}

function Labels({ labels }: { readonly labels: Readonly<Record<string, string>> }): ReactNode {
  return <span className={own.labels}>{labelsOf(labels).map(([name, value]) => <span key={name} className={own.label} title={`${name} = ${value}`}><i>{name}</i>{value}</span>)}</span>;
}

function AlertTable({ alerts, rules, receivers }: { readonly alerts: readonly Alert[]; readonly rules: readonly AlertRule[]; readonly receivers: readonly AlertReceiver[] }): ReactNode {
  useNow(1_000);
  const nowMs = Date.now();
  const [open, setOpen] = useState<string | null>(null);
  return (
    <div className={css.wide}>
      <table className={css.records}>
        <thead><tr><th>alert</th><th>labels</th><th data-right="true">value</th><th data-right="true">since</th><th /></tr></thead>
        <tbody>
          {alerts.map((alert) => {
            const key = alertKey(alert);
            const rule = ruleOf(alert, rules);
            const link = silenceLink(alert, receivers);
            const isOpen = open === key;
            return [
              <tr key={key} data-testid="alert" data-state={alert.state}>
                <td>
                  <span className={own.name}>
                    <button type="button" className={css.open} aria-expanded={isOpen} aria-label={`rows of ${alert.alertname}`} onClick={() => setOpen(isOpen ? null : key)}>{isOpen ? "▾" : "▸"}</button>
                    <StatusMark status={alert.state === "firing" ? "bad" : "warn"} />
                    <b>{alert.alertname}</b><span className={own.state}>{alert.state}</span>
                  </span>
                  {Object.entries(alert.annotations).slice(0, 3).map(([name, text]) => <div key={name} className={own.text} title={name}>{text}</div>)}
                  {!alert.completeness.complete && <div className={own.warn}>not complete: {alert.completeness.why}</div>}
                  {alert.error !== null && <div className={own.warn}>stays as it is: {alert.error}</div>}
                </td>
                <td><Labels labels={alert.labels} /></td>
                <td data-right="true">{number(alert.value)}</td>
                <td data-right="true" title={at(alert.fired_at ?? alert.active_at)}>{since(alert.fired_at ?? alert.active_at, nowMs)}</td>
                <td data-right="true">{link !== null && <a href={link} target="_blank" rel="noreferrer">silence</a>}</td>
              </tr>,
              isOpen && rule !== undefined && <tr key={`${key} rows`}><td colSpan={5} className={css.inside}><Behind alert={alert} rule={rule} /></td></tr>,
            ];
          })}
        </tbody>
      </table>
    </div>
  );
}

/** The rows of the rule's answer that are the alert, live. */
function Behind({ alert, rule }: { readonly alert: Alert; readonly rule: AlertRule }): ReactNode {
  const { session, status } = useSession({ text: rule.expr }, rule.expr, 0);
  const store = [...(session?.tables.values() ?? [])][0];
  if (status?.error != null) return <p className={css.none}>{status.error.message}</p>;
  if (store === undefined || !store.isDrawn) return <p className={css.none}>…</p>;
  return <BehindRows store={store} alert={alert} rule={rule} />;
}

function BehindRows({ store, alert, rule }: { readonly store: TableStore; readonly alert: Alert; readonly rule: AlertRule }): ReactNode {
  useTableVersion(store);
  const rows = store.rows().filter((entry) => isBehind(entry.row, alert, rule));
  if (rows.length === 0) return <p className={css.none}>Its row is gone: the alert is kept (<code>keep_firing_for</code>) or held, because the answer is not complete.</p>;
  return (
    <table className={css.operators} data-testid="behind">
      <thead><tr>{store.schema.columns.map((column) => <th key={column.name}>{column.name}</th>)}</tr></thead>
      <tbody>{rows.slice(0, ROWS_MAX).map((entry) => <tr key={entry.id}>{store.schema.columns.map((column) => <td key={column.name}>{plainText(entry.row[column.name], column)}</td>)}</tr>)}</tbody>
    </table>
  );
}

const RULE_STATUS: Readonly<Record<AlertRule["state"], "ok" | "wait" | "warn" | "bad">> = { running: "ok", waiting: "wait", error: "warn", failed: "bad" };

function Rules({ rules }: { readonly rules: readonly AlertRule[] }): ReactNode {
  const [open, setOpen] = useState<string | null>(null);
  const look = (rule: AlertRule): void => {
    setScratch({ text: rule.expr, func: "", args: {}, from: "", vis: null });
    navigate({ page: "scratch" });
  };
  const wait = (ns: unknown): string => (toNumber(ns) > 0 ? joined(duration(toNumber(ns))) : "–");
  return (
    <section className={css.block}>
      <h2>Rules</h2>
      <div className={css.wide}>
        <table className={css.records}>
          <thead><tr><th>rule</th><th>group</th><th data-right="true">for</th><th data-right="true">kept</th><th data-right="true">pending</th><th data-right="true">firing</th></tr></thead>
          <tbody>
            {rules.map((rule) => [
              <tr key={String(rule.id)} data-testid="rule">
                <td>
                  <span className={own.name}>
                    <button type="button" className={css.open} aria-expanded={open === String(rule.id)} aria-label={`text of ${rule.name}`} onClick={() => setOpen(open === String(rule.id) ? null : String(rule.id))}>{open === String(rule.id) ? "▾" : "▸"}</button>
                    <StatusMark status={RULE_STATUS[rule.state]} />
                    <b>{rule.name}</b>{rule.state !== "running" && <span className={own.state}>{rule.state}</span>}
                  </span>
                  {rule.last_error !== "" && <div className={own.warn}>{rule.last_error}</div>}
                  {rule.incomplete !== "" && <div className={own.text}>not complete: {rule.incomplete}</div>}
                </td>
                <td>{rule.group}</td>
                <td data-right="true">{wait(rule.for_ns)}</td>
                <td data-right="true">{wait(rule.keep_firing_for_ns)}</td>
                <td data-right="true">{grouped(rule.pending)}</td>
                <td data-right="true">{grouped(rule.firing)}</td>
              </tr>,
              open === String(rule.id) && (
                <tr key={`${String(rule.id)} text`}>
                  <td colSpan={6} className={css.inside}>
                    <pre className={own.expr}>{rule.expr}</pre>
                    <p className={css.none}>{rule.file} · <button type="button" className={own.link} onClick={() => look(rule)}>open as a live view</button></p>
                    <Preview rule={rule} />
                  </td>
                </tr>
              ),
            ])}
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** What the rule would have done over what is still held: asked for, since each look is a query. */
function Preview({ rule }: { readonly rule: AlertRule }): ReactNode {
  const [said, setSaid] = useState<string | null>(null);
  const [isAsking, setAsking] = useState(false);
  const ask = (): void => {
    setAsking(true);
    void api.preview(rule.id)
      .then((made) => setSaid(previewText(made)), (error: unknown) => setSaid(`No preview: ${error instanceof Error ? error.message : String(error)}.`))
      .finally(() => setAsking(false));
  };
  return (
    <p className={css.none} data-testid="preview" aria-live="polite">
      {isAsking ? "looking at the last hour …" : said ?? ""}
      {!isAsking && <>{said === null ? "" : " "}<button type="button" className={own.link} onClick={ask}>{said === null ? "what would it have done in the last hour?" : "again"}</button></>}
    </p>
  );
}

function Receivers({ receivers }: { readonly receivers: readonly AlertReceiver[] }): ReactNode {
  return (
    <section className={css.block}>
      <h2>Who is told</h2>
      <div className={css.wide}>
        <table className={css.records}>
          <thead><tr><th>receiver</th><th>to</th><th data-right="true">waiting</th><th data-right="true">sent</th><th data-right="true">lost</th><th>last error</th></tr></thead>
          <tbody>
            {receivers.map((receiver) => (
              <tr key={receiver.name} data-testid="receiver">
                <td><span className={own.name}><StatusMark status={receiver.state === "running" ? "ok" : "warn"} /><b>{receiver.name}</b><span className={own.state}>{receiver.type}</span></span></td>
                <td>{receiver.to}</td>
                <td data-right="true">{grouped(receiver.waiting)}</td>
                <td data-right="true">{grouped(receiver.sent)}</td>
                <td data-right="true">{grouped(receiver.lost)}</td>
                <td className={own.error}>{receiver.last_error || "–"}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

const HAPPENED: Readonly<Record<AlertHappened["what"], "ok" | "warn" | "bad" | "none">> = { firing: "bad", pending: "warn", resolved: "ok", retracted: "none" };

function HistoryTable({ history }: { readonly history: readonly AlertHappened[] }): ReactNode {
  return (
    <section className={css.block}>
      <h2>Last day</h2>
      <div className={css.wide}>
        <table className={css.records}>
          <thead><tr><th>time</th><th>what</th><th>labels</th><th data-right="true">value</th></tr></thead>
          <tbody>
            {history.slice(0, HISTORY_SHOWN).map((item, idx) => (
              <tr key={idx} data-testid="happened">
                <td className={own.time}>{at(item.at)}</td>
                <td><span className={own.name}><StatusMark status={HAPPENED[item.what]} /><b>{item.alertname}</b><span className={own.state}>{item.what}</span></span></td>
                <td><Labels labels={item.labels} /></td>
                <td data-right="true">{number(item.value)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {history.length > HISTORY_SHOWN && <p className={css.none}>the newest {HISTORY_SHOWN}; <code>weir alerts --history</code> has all</p>}
    </section>
  );
}
