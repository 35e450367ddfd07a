// The widgets on their grid. A layout that nearly fits the window fills it; a narrow window stacks.
import { memo, useMemo, useRef, type ReactNode } from "react";
import type { Vis } from "../protocol";
import { useSize } from "../hooks";
import { windowMs } from "../format/time";
import { useShell } from "../shell/context";
import { StatusMark } from "../shell/icons";
import { MOVING, place, type Placed } from "../widgets/place";
import { Widget, type Selection } from "../widgets/Widget";
import type { LiveSession, Status } from "./session";
import css from "./live.module.css";
import grid from "../widgets/widgets.module.css";

const GAP_PX = 12;
const UNIT_MIN_PX = 84;
const UNIT_MAX_PX = 220;
const STACK_BELOW_PX = 720;

export interface CanvasProps {
  readonly session: LiveSession;
  readonly status: Status;
  readonly vis: Vis | null;
  readonly text: string;
  /** What the arguments narrow the answer to, such as pod “shop/cart-1”; empty if nothing. */
  readonly narrowedTo: string;
  readonly selection: Selection | null;
  readonly onSelect: (selection: Selection) => void;
  readonly onShowPxl: () => void;
}

export const Canvas = memo(function Canvas({ session, status, vis, text, narrowedTo, selection, onSelect, onShowPxl }: CanvasProps): ReactNode {
  const host = useRef<HTMLDivElement>(null);
  const { width, height } = useSize(host);
  const layout = useMemo(
    () => place(vis, status.tables.flatMap((name) => session.tables.get(name)?.schema ?? [])),
    [vis, session, status.tables],
  );
  const isNarrow = width > 0 && width < STACK_BELOW_PX;
  const rows = isNarrow ? 0 : layout.rows;
  const fitted = (height - 2 * GAP_PX - Math.max(0, rows - 1) * GAP_PX) / Math.max(1, rows);
  const unit = Math.floor(Math.max(UNIT_MIN_PX, Math.min(UNIT_MAX_PX, fitted)));
  const stacked = (item: Placed, index: number): Placed => ({ ...item, x: 0, y: index, w: 1, h: 1 });
  const items = isNarrow ? [...layout.items].sort((a, b) => a.y - b.y || a.x - b.x) : layout.items;
  const style = isNarrow
    ? { gridTemplateColumns: "minmax(0, 1fr)", gridTemplateRows: items.map((item) => `${item.h * UNIT_MIN_PX + (item.h - 1) * GAP_PX}px`).join(" ") }
    : { gridTemplateColumns: `repeat(${layout.columns}, minmax(0, 1fr))`, gridAutoRows: `${unit}px` };
  return (
    <div className={css.canvas} ref={host}>
      <EmptyHint session={session} status={status} text={text} narrowedTo={narrowedTo} />
      <div className={grid.grid} style={style}>
        {items.map((item, index) => (
          <Widget key={item.key} placed={isNarrow ? stacked(item, index) : item} session={session} phase={status.phase} error={status.tableErrors.get(item.table)}
            frontier={MOVING.has(item.kind) ? (status.shown?.frontier ?? "") : ""} selectedId={selection?.table === item.table ? selection.id : null}
            onSelect={onSelect} onShowPxl={onShowPxl} />
        ))}
      </div>
    </div>
  );
});

/** When the whole answer is empty: what would make it otherwise. */
function EmptyHint({ session, status, text, narrowedTo }: {
  readonly session: LiveSession; readonly status: Status; readonly text: string; readonly narrowedTo: string;
}): ReactNode {
  const { doctor } = useShell();
  const stores = [...session.tables.values()];
  const isEmpty = status.phase === "live" && stores.length > 0 && stores.every((store) => store.isDrawn && store.total === 0);
  if (!isEmpty) return null;
  const from = stores.map((store) => store.schema.window?.from ?? "").find((each) => Number.isFinite(windowMs(each))) ?? "";
  const span = from === "" ? "" : ` in the last ${from.slice(1)}`;
  const isHttp = /http_events|pxviews/.test(text) || stores.some((store) => store.column("resp_status") !== undefined);
  if (doctor !== null && !doctor.can_capture) {
    return (
      <div className={css.empty} data-testid="empty-hint" data-level="warn">
        <StatusMark status="warn" size={14} />
        <div>
          <h2>This host cannot capture traffic</h2>
          <p>{doctor.hint ?? ""} <code>weir doctor</code> explains; <code>weir up --demo</code> shows the page with traffic of its own.</p>
          <ul>{doctor.checks.filter((check) => !check.ok).map((check) => <li key={check.name}><b>{check.name}</b> {check.detail}</li>)}</ul>
        </div>
      </div>
    );
  }
  if (narrowedTo !== "") {
    return (
      <div className={css.empty} data-testid="empty-hint">
        <StatusMark status="info" size={14} />
        <div>
          <h2>Nothing seen of {narrowedTo}{span}</h2>
          <p>Is the name right? It is compared letter by letter. Other traffic may well be there: the scripts without this argument show it, and <code>weir doctor</code> tells what is captured here.</p>
        </div>
      </div>
    );
  }
  return (
    <div className={css.empty} data-testid="empty-hint">
      <StatusMark status="info" size={14} />
      <div>
        <h2>{isHttp ? `No HTTP traffic seen on this host${span}` : `No rows${span}`}</h2>
        {isHttp
          ? <p>Make some: <code>python3 -m http.server 8000 &</code> then <code>curl http://127.0.0.1:8000/</code>. It shows here within a second. <code>weir doctor</code> tells what is captured here.</p>
          : <p>They appear here the moment they exist. <code>weir doctor</code> tells what is captured here.</p>}
      </div>
    </div>
  );
}
