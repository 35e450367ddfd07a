// How true the picture is, always in sight; a click explains.
import { useSyncExternalStore, type ReactNode } from "react";
import { useNow } from "../hooks";
import { windowMs } from "../format/time";
import { clock, dateClock, timeMs } from "../format/time";
import type { LiveSession, Status } from "../live/session";
import { truthOf } from "../live/truth";
import { useShell } from "./context";
import { StatusMark } from "./icons";
import { Popover } from "./Popover";
import css from "./shell.module.css";

const CONNECTION = { open: "open", connecting: "connecting", waiting: "lost, trying again" } as const;

export function TruthBadge({ session, status }: { readonly session: LiveSession; readonly status: Status }): ReactNode {
  const { socket, nodeCount } = useShell();
  const connection = useSyncExternalStore(socket.subscribe, socket.getState);
  useNow(1_000);
  const truth = truthOf(status, connection.kind === "open", nodeCount, performance.now());
  const { shown } = status;
  const froms = new Set([...session.tables.values()].map((store) => store.schema.window?.from ?? "").filter((from) => Number.isFinite(windowMs(from))));
  return (
    <Popover label="how true this picture is" align="right" testId="truth-badge" buttonData={{ "data-level": truth.level }} buttonClass={css.badge}
      button={<><StatusMark status={truth.level} /><span>{truth.text}</span></>}>
      {() => (
        <div className={css.truth} data-testid="truth-details">
          {truth.level === "ok" && <p>Everything that happened up to {clock(timeMs(shown?.complete_to))} is in this picture. Nothing was lost.</p>}
          {truth.reasons.map((reason) => <p key={reason} className={css.truthReason}><StatusMark status={truth.level} />{reason}</p>)}
          {shown !== null && (
            <dl>
              <div><dt title="rows admitted up to here are in">Frontier</dt><dd>{clock(timeMs(shown.frontier), true)}</dd></div>
              <div><dt title="event time below which no live node still owes a row">Complete to</dt><dd>{clock(timeMs(shown.complete_to), true)}</dd></div>
              <div><dt title="event time since which no live node dropped history">History since</dt><dd>{timeMs(shown.covers_from) > 0 ? dateClock(timeMs(shown.covers_from)).slice(0, 19) : "the beginning"}</dd></div>
              {froms.size > 0 && <div><dt>Window</dt><dd>{[...froms].map((from) => `last ${from.slice(1)}`).join(", ")}</dd></div>}
              <div><dt>Nodes</dt><dd>{nodeCount ?? "unknown"}{shown.lagging.length > 0 && `, behind: ${shown.lagging.join(", ")}`}</dd></div>
              <div><dt>Lost in the window</dt><dd>{truth.lost.length === 0 ? "nothing" : truth.lost.map(({ table, reason, count }) => `${count.toLocaleString("en-US")} of ${table} (${reason.replaceAll("_", " ")})`).join(", ")}</dd></div>
              <div><dt>Connection</dt><dd>{CONNECTION[connection.kind]}</dd></div>
            </dl>
          )}
        </div>
      )}
    </Popover>
  );
}
