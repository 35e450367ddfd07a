// Where data comes from: the nodes, what each source can do, and the server's own figures.
import type { ReactNode } from "react";
import { api, type JsonObject } from "../api";
import { usePolled } from "../hooks";
import { bytes, duration, joined, toNumber } from "../format/numbers";
import { useShell } from "../shell/context";
import { StatusMark } from "../shell/icons";
import { ListPage, RecordTable } from "./ListPage";
import css from "./pages.module.css";

const POLL_MS = 2_000;
const object = (value: unknown): JsonObject => (typeof value === "object" && value !== null ? (value as JsonObject) : {});
const good = (state: string): "ok" | "warn" | "bad" => (/run|ok|live|ready|attached/i.test(state) ? "ok" : /fail|error/i.test(state) ? "bad" : "warn");

export function NodesPage(): ReactNode {
  const { doctor } = useShell();
  const { value: nodes, error } = usePolled(api.nodes, POLL_MS);
  const { value: stats } = usePolled(api.stats, POLL_MS);
  const sources = Object.entries(object(stats?.["sources"]));
  const tables = Object.entries(object(stats?.["tables"]));
  const latency = object(stats?.["event_to_view_ns"]);
  const process = object(stats?.["process"]);
  const ns = (value: unknown): string => (Number.isFinite(toNumber(value)) ? joined(duration(toNumber(value))) : "–");
  return (
    <ListPage title="Nodes" note="Where events are captured, and what can be seen there." error={error}>
      <RecordTable records={nodes} first={["name", "hostname", "lagging", "last_heard_ms_ago", "sources"]} empty="No node has registered." />
      {stats !== null && (
        <div className={css.figures}>
          <Figure name="event to view, p50" text={ns(latency["p50"])} />
          <Figure name="event to view, p99" text={ns(latency["p99"])} />
          <Figure name="memory" text={process["rss_bytes"] === undefined ? "–" : joined(bytes(toNumber(process["rss_bytes"])))} />
          <Figure name="processor time" text={ns(process["cpu_ns"])} />
        </div>
      )}
      {sources.length > 0 && (
        <section className={css.block}>
          <h2>Sources</h2>
          {sources.map(([name, value]) => {
            const { state, reason } = object(value);
            return <p key={name} className={css.check}><StatusMark status={good(String(state))} /><b>{name}</b><span>{String(state)}{reason ? `: ${String(reason)}` : ""}</span></p>;
          })}
        </section>
      )}
      {doctor !== null && (
        <section className={css.block}>
          <h2>What works on this host</h2>
          {doctor.checks.map((check) => <p key={check.name} className={css.check}><StatusMark status={check.ok ? "ok" : "warn"} /><b>{check.name}</b><span>{check.detail}</span></p>)}
          {!doctor.can_capture && <p className={css.hint}>{doctor.hint}</p>}
        </section>
      )}
      {tables.length > 0 && (
        <section className={css.block}>
          <h2>Tables kept</h2>
          <RecordTable first={["table", "rows", "bytes", "lost"]} empty=""
            records={tables.map(([table, value]) => ({ table, ...object(value) }))} />
        </section>
      )}
    </ListPage>
  );
}

function Figure({ name, text }: { readonly name: string; readonly text: string }): ReactNode {
  return <div><b>{text}</b><span>{name}</span></div>;
}
