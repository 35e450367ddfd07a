// The frame around one widget: title, filter, menu, its own error, and what to draw inside.
import { useCallback, useEffect, useState, type ReactNode } from "react";
import type { LiveSession, Phase } from "../live/session";
import type { Entry, TableStore } from "../live/table-store";
import type { ErrorMessage } from "../protocol";
import { useTableVersion } from "../hooks";
import { windowMs } from "../format/time";
import { isDrawableGraph } from "../map/model";
import { Icon, StatusMark } from "../shell/icons";
import { Popover } from "../shell/Popover";
import { csvText, handOver, jsonText } from "./copy";
import { DRAWN } from "./drawn";
import { Order } from "./order";
import { Table } from "./Table";
import type { Placed } from "./place";
import css from "./widgets.module.css";

export interface Selection {
  readonly table: string;
  readonly id: number;
  readonly entry: Entry;
  readonly neighbours: () => readonly Entry[];
}
export interface WidgetProps {
  readonly placed: Placed;
  readonly session: LiveSession;
  readonly phase: Phase;
  readonly error: ErrorMessage | undefined;
  /** Where time charts end; empty for the others, so that progress alone does not draw them. */
  readonly frontier: string;
  readonly selectedId: number | null;
  readonly onSelect: (selection: Selection) => void;
  readonly onShowPxl: () => void;
}

const SHOWN_AS_TABLE = new Set(["table", "other"]);

export function Widget({ placed, session, phase, error, frontier, selectedId, onSelect, onShowPxl }: WidgetProps): ReactNode {
  const store = session.tables.get(placed.table);
  const [full, setFull] = useState(false);
  const [filter, setFilter] = useState<string | null>(null);
  useEffect(() => {
    if (!full) return;
    const onKey = (event: KeyboardEvent): void => { if (event.key === "Escape") setFull(false); };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, [full]);
  const asTable = SHOWN_AS_TABLE.has(placed.kind) || (placed.kind === "graph" && !isDrawableGraph(placed.spec));
  const style = full ? undefined : { gridColumn: `${placed.x + 1} / span ${placed.w}`, gridRow: `${placed.y + 1} / span ${placed.h}` };
  const select = useCallback(
    (entry: Entry, neighbours: () => readonly Entry[]) => onSelect({ table: placed.table, id: entry.id, entry, neighbours }),
    [onSelect, placed.table],
  );
  return (
    <section className={css.widget} data-full={full} data-testid="widget" data-table={placed.table} data-kind={placed.kind} style={style} aria-label={placed.title}>
      <header className={css.head}>
        <h2>{placed.title}</h2>
        {asTable && store !== undefined && <Count store={store} filter={filter ?? ""} />}
        <span className={css.gap} />
        {asTable && filter !== null && (
          <input className={css.filter} autoFocus placeholder="filter rows" aria-label="filter rows" value={filter} onChange={(event) => setFilter(event.target.value)}
            onKeyDown={(event) => { if (event.key === "Escape") { event.stopPropagation(); setFilter(null); } }} />
        )}
        {asTable && <button type="button" className={css.tool} aria-label="filter rows" title="filter rows" onClick={() => setFilter(filter === null ? "" : null)}><Icon name="search" /></button>}
        {full && <button type="button" className={css.tool} aria-label="leave full screen" title="leave full screen (Esc)" onClick={() => setFull(false)}><Icon name="close" /></button>}
        <Menu placed={placed} store={store} full={full} setFull={setFull} onShowPxl={onShowPxl} />
      </header>
      {placed.kind === "other" && <p className={css.note}>{placed.display} is not drawn by this page yet: its rows as a table.</p>}
      {placed.kind === "graph" && asTable && <p className={css.note}>A graph given as DOT text is not drawn by this page yet: its rows as a table.</p>}
      <div className={css.body}>
        {error !== undefined
          ? <WidgetError error={error} />
          : placed.kind === "text" ? <p className={css.text}>{String(placed.spec["body"] ?? "")}</p>
          : store === undefined ? (phase !== "failed" && <Skeleton />)
          : <Drawn placed={placed} store={store} asTable={asTable} frontier={frontier} filter={filter ?? ""} selectedId={selectedId} onSelect={select} />}
      </div>
    </section>
  );
}

function Menu({ placed, store, full, setFull, onShowPxl }: {
  readonly placed: Placed; readonly store: TableStore | undefined; readonly full: boolean; readonly setFull: (full: boolean) => void; readonly onShowPxl: () => void;
}): ReactNode {
  return (
    <Popover label={`menu of ${placed.title}`} button={<Icon name="more" />} buttonClass={css.tool} align="right">
      {(close) => (
        <div className={css.menu}>
          <button type="button" onClick={() => { setFull(!full); close(); }}><Icon name="expand" />{full ? "Leave full screen" : "Full screen"}</button>
          {store !== undefined && <button type="button" onClick={() => { void handOver(csvText(store), `${placed.table}.csv`); close(); }}><Icon name="copy" />Copy as CSV</button>}
          {store !== undefined && <button type="button" onClick={() => { void handOver(jsonText(store), `${placed.table}.json`); close(); }}><Icon name="copy" />Copy as JSON</button>}
          <button type="button" onClick={() => { onShowPxl(); close(); }}><Icon name="code" />Show PxL</button>
        </div>
      )}
    </Popover>
  );
}

function Count({ store, filter }: { readonly store: TableStore; readonly filter: string }): ReactNode {
  useTableVersion(store);
  const all = store.total.toLocaleString("en-US");
  const noun = store.total === 1 ? "row" : "rows";
  const text = filter.trim() === "" ? `${all} ${noun}` : `${Order.matching(store, filter).toLocaleString("en-US")} of ${all} ${noun}`;
  return <span className={css.count} data-testid="row-count">{text}</span>;
}

interface DrawnProps {
  readonly placed: Placed;
  readonly store: TableStore;
  readonly asTable: boolean;
  readonly frontier: string;
  readonly filter: string;
  readonly selectedId: number | null;
  readonly onSelect: (entry: Entry, neighbours: () => readonly Entry[]) => void;
}

function Drawn({ placed, store, asTable, frontier, filter, selectedId, onSelect }: DrawnProps): ReactNode {
  useTableVersion(store);
  if (store.refused) return <p className={css.text}>More rows than a page can hold. Narrow the script with a filter, a group-by or `head`.</p>;
  if (!store.isDrawn) return <Skeleton />;
  if (store.total === 0) return <Nothing from={store.schema.window?.from} />;
  if (asTable) return <Table store={store} spec={placed.spec} filter={filter} selectedId={selectedId} onSelect={onSelect} />;
  return DRAWN[placed.kind]?.({ store, spec: placed.spec, frontier });
}

function Nothing({ from }: { readonly from: string | undefined }): ReactNode {
  const span = Number.isFinite(windowMs(from)) ? ` in the last ${(from ?? "").slice(1)}` : "";
  return <p className={css.nothing} data-testid="no-rows">No rows{span}. They appear here the moment they exist.</p>;
}

function Skeleton(): ReactNode {
  return <div className={css.skeleton} aria-hidden="true"><i /><i /><i /></div>;
}

function WidgetError({ error }: { readonly error: ErrorMessage }): ReactNode {
  return (
    <div className={css.error} role="alert">
      <StatusMark status="bad" size={12} />
      <div>
        <strong>{error.message}</strong>
        <code>{error.code}</code>
        {error.diagnostics?.map((each) => (
          <p key={`${each.line}:${each.column}:${each.code}`}>{each.line > 0 && `${each.file ? `${each.file}:` : "line "}${each.line}: `}{each.message !== error.message && each.message} {each.hint}</p>
        ))}
      </div>
    </div>
  );
}
