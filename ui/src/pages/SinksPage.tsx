// Where results go: how each sink is, how far behind, what waits for it and what hinders it.
import type { ReactNode } from "react";
import type { SinkStatus } from "../messages";
import { bytes, duration, grouped, joined, toNumber } from "../format/numbers";
import { clock, timeMs } from "../format/time";
import { useStatus } from "../live/useStatus";
import { StatusMark } from "../shell/icons";
import { ListPage } from "./ListPage";
import css from "./pages.module.css";
import own from "./alerts.module.css";

const STATUS: Readonly<Record<SinkStatus["state"], "ok" | "warn" | "bad">> = { running: "ok", retrying: "warn", full: "warn", failed: "bad" };

/** How much its view is ahead of what is safe at the other end. */
function lag(sink: SinkStatus): string {
  const behindMs = timeMs(sink.frontier) - timeMs(sink.acked);
  if (!Number.isFinite(behindMs)) return "–";
  return behindMs <= 0 ? "0" : joined(duration(behindMs * 1e6));
}

export function SinksPage(): ReactNode {
  const { value, error } = useStatus("sinks");
  const sinks = value?.sinks ?? [];
  return (
    <ListPage title="Sinks" note="Where results go. A sink that cannot write keeps nobody waiting: its rows wait in its buffer." error={error}>
      {value !== null && sinks.length === 0 && (
        <p className={css.none} data-testid="sinks-none">No sinks. Name them in the configuration, below <code>sinks:</code>, and start with <code>weir up --config weir.yaml</code>.</p>
      )}
      {sinks.length > 0 && (
        <div className={css.wide}>
          <table className={css.records}>
            <thead><tr><th>sink</th><th data-right="true">behind</th><th data-right="true">buffer</th><th data-right="true">rows sent</th><th data-right="true">rows lost</th><th>last error</th></tr></thead>
            <tbody>
              {sinks.map((sink) => (
                <tr key={sink.name} data-testid="sink" data-state={sink.state}>
                  <td><span className={own.name}><StatusMark status={STATUS[sink.state]} /><b>{sink.name}</b><span className={own.state}>{sink.type}{sink.state === "running" ? "" : ` · ${sink.state}`}</span></span>{sink.target !== undefined && sink.target !== "" && <div className={own.where} data-testid="target">{sink.target}</div>}</td>
                  <td data-right="true">{lag(sink)}</td>
                  <td data-right="true">{joined(bytes(toNumber(sink.buffer_bytes ?? 0)))}</td>
                  <td data-right="true">{grouped(sink.rows_sent ?? 0)}</td>
                  <td data-right="true">{grouped(sink.rows_lost ?? 0)}{(sink.ends_with_loss ?? 0) > 0 && <div className={own.unsaid} data-testid="lost-since">and what waited since {clock(timeMs(sink.lost_since))}</div>}</td>
                  <td className={own.error}>{sink.last_error || "–"}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </ListPage>
  );
}
