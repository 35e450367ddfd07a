// A table of any size: only the lines in sight are drawn, and those hold their place while others
// come and go above them. All lines have one height, which makes the arithmetic exact; no list library
// is needed for that.
import { memo, useCallback, useLayoutEffect, useMemo, useRef, useState, type CSSProperties, type KeyboardEvent, type ReactNode } from "react";
import type { Entry, TableStore } from "../live/table-store";
import type { Column, DisplaySpec } from "../protocol";
import { useReducedMotion, useSize, useTableVersion } from "../hooks";
import { Cell, type Scale } from "../format/cell";
import { alignsRight, exactText, httpStatusClass, isQuantiles, parseQuantiles, plainText, stateOf } from "../format/semantic";
import { toNumber } from "../format/numbers";
import { Icon, StatusMark } from "../shell/icons";
import { defaultSort, isVolatile, Order, type Sort } from "./order";
import css from "./table.module.css";

export const ROW_PX = 28;
const HEAD_PX = 32;
const OVERSCAN = 6;
const FADE_MS = 600;
/** Browsers cannot lay out boxes much taller than this; beyond, the scroll bar is coarser than a line. */
const TALL_MAX_PX = 30_000_000;

export interface TableProps {
  readonly store: TableStore;
  readonly spec: DisplaySpec;
  readonly filter: string;
  readonly selectedId: number | null;
  readonly onSelect: (entry: Entry, neighbours: () => readonly Entry[]) => void;
}

export const Table = memo(function Table({ store, spec, filter, selectedId, onSelect }: TableProps): ReactNode {
  const version = useTableVersion(store);
  const [sort, setSort] = useState<Sort | null | undefined>(undefined);
  const chosen = sort === undefined ? defaultSort(store) : sort;
  const order = useRef(new Order());
  const nowMs = performance.now();
  const entries = useMemo(
    () => order.current.of(store, chosen, filter, performance.now()),
    // The store is mutable: its version stands for its content.
    // eslint-disable-next-line react-hooks/exhaustive-deps
    [store, version, chosen?.column, chosen?.descending, filter],
  );
  const latest = useRef(entries);
  latest.current = entries;
  const gutter = typeof spec["gutterColumn"] === "string" ? store.column(spec["gutterColumn"]) : undefined;
  const columns = useMemo(() => store.schema.columns.filter((column) => column !== gutter), [store.schema, gutter]);
  const scroller = useRef<HTMLDivElement>(null);
  const { width, height } = useSize(scroller);
  const [scrollTop, setScrollTop] = useState(0);
  const { template, widthPx } = useColumnWidths(store, columns, entries, width, gutter !== undefined);
  useAnchor(scroller, entries, setScrollTop);
  const still = useReducedMotion();

  const first = Math.max(0, Math.floor(scrollTop / ROW_PX) - OVERSCAN);
  const last = Math.min(entries.length, Math.ceil((scrollTop + height) / ROW_PX) + OVERSCAN);
  const visible = entries.slice(first, last);
  const scales = useScales(columns, visible);
  const select = useCallback((entry: Entry) => onSelect(entry, () => latest.current), [onSelect]);
  const onKey = (event: KeyboardEvent): void => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 12, PageUp: -12 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const at = entries.findIndex((entry) => entry.id === selectedId);
    const next = entries[Math.max(0, Math.min(entries.length - 1, at < 0 ? first + OVERSCAN : at + step))];
    if (next === undefined) return;
    select(next);
    keepInSight(scroller.current, entries.indexOf(next));
  };

  return (
    <div className={css.scroller} ref={scroller} tabIndex={0} onKeyDown={onKey} role="grid" aria-rowcount={entries.length}
      style={{ "--line-width": `${widthPx}px` } as CSSProperties}
      aria-label={store.name} data-testid="table" onScroll={(event) => setScrollTop(event.currentTarget.scrollTop)}>
      <div className={css.head} role="row" style={{ gridTemplateColumns: template }}>
        {gutter !== undefined && <span className={css.gutter} />}
        {columns.map((column) => <Head key={column.name} column={column} sort={chosen} live={isVolatile(store, column.name)} onSort={setSort} />)}
      </div>
      {entries.length === 0 && filter.trim() !== "" && <p className={css.noMatch} data-testid="no-match">No row contains “{filter.trim()}”.</p>}
      <div className={css.body} style={{ height: Math.min(entries.length * ROW_PX, TALL_MAX_PX) }}>
        {visible.map((entry, index) => (
          <Line key={entry.id} entry={entry} index={first + index} columns={columns} gutter={gutter} template={template} scales={scales}
            selected={entry.id === selectedId} drawnAtMs={still ? Number.POSITIVE_INFINITY : nowMs} onSelect={select} />
        ))}
      </div>
    </div>
  );
});

function Head({ column, sort, live, onSort }: { readonly column: Column; readonly sort: Sort | null; readonly live: boolean; readonly onSort: (sort: Sort | null) => void }): ReactNode {
  const active = sort?.column === column.name;
  const next = (): void => {
    if (!active) onSort({ column: column.name, descending: alignsRight(column) });
    else onSort({ column: column.name, descending: !sort.descending });
  };
  const type = column.semantic === "NONE" ? column.type : column.semantic;
  const note = active && live ? "\nsorted anew once a second, because its values change" : "";
  return (
    <div role="columnheader" className={css.headCell} data-right={alignsRight(column)} aria-sort={active ? (sort.descending ? "descending" : "ascending") : "none"}>
      <button type="button" onClick={next} title={`${column.desc === "" ? column.name : column.desc}\n${type}${note}`}>
        <span className={css.headText}>{column.name.replace(/_+$/, "").replaceAll("_", " ")}</span>
        {active && <span className={css.sortMark}><Icon name={sort.descending ? "down" : "up"} />{live && <em>1 s</em>}</span>}
      </button>
    </div>
  );
}

interface LineProps {
  readonly entry: Entry;
  readonly index: number;
  readonly columns: readonly Column[];
  readonly gutter: Column | undefined;
  readonly template: string;
  readonly scales: Readonly<Record<string, Scale>>;
  readonly selected: boolean;
  readonly drawnAtMs: number;
  readonly onSelect: (entry: Entry) => void;
}

/** A line is drawn again when it changes or moves; that its fade has run out needs no drawing. */
const sameLine = (a: LineProps, b: LineProps): boolean =>
  a.entry === b.entry && a.index === b.index && a.columns === b.columns && a.template === b.template &&
  a.scales === b.scales && a.selected === b.selected && a.onSelect === b.onSelect;

const Line = memo(function Line({ entry, index, columns, gutter, template, scales, selected, drawnAtMs, onSelect }: LineProps): ReactNode {
  const isNew = entry.bornAtMs > 0 && drawnAtMs - entry.bornAtMs < FADE_MS && drawnAtMs !== Number.POSITIVE_INFINITY;
  return (
    <div role="row" aria-rowindex={index + 1} aria-selected={selected} className={isNew ? `${css.line} ${css.born}` : css.line}
      style={{ gridTemplateColumns: template, transform: `translateY(${index * ROW_PX}px)` }} onClick={() => onSelect(entry)}>
      {gutter !== undefined && <span className={css.gutter} title={plainText(entry.row[gutter.name], gutter)}><GutterMark entry={entry} column={gutter} /></span>}
      {columns.map((column, at) => {
        const age = drawnAtMs - (entry.changedAtMs[column.name] ?? Number.NEGATIVE_INFINITY);
        const flash = age < FADE_MS ? (entry.changes % 2 === 0 ? css.flashA : css.flashB) : "";
        const value = entry.row[column.name];
        return (
          <div key={column.name} role="gridcell" className={`${css.cell} ${flash}`} data-right={alignsRight(column)}
            title={isQuantiles(column) ? undefined : exactText(value, column).slice(0, 500)}>
            <Cell value={value} column={column} scale={scales[column.name]} />
            {at === 0 && entry.count > 1 && <span className={css.times}>×{entry.count}</span>}
          </div>
        );
      })}
    </div>
  );
}, sameLine);

function GutterMark({ entry, column }: { readonly entry: Entry; readonly column: Column }): ReactNode {
  const value = entry.row[column.name];
  if (value === undefined) return null;
  const status = column.semantic === "HTTP_RESP_STATUS" ? httpStatusClass(toNumber(value)) : stateOf(value).status;
  return <StatusMark status={status} />;
}

/** The common scale of a column's strips: from power of two to power of two, so that it seldom moves. */
function useScales(columns: readonly Column[], visible: readonly Entry[]): Readonly<Record<string, Scale>> {
  const scales = useRef<Readonly<Record<string, Scale>>>({});
  const next: Record<string, Scale> = {};
  for (const column of columns) {
    if (!isQuantiles(column)) continue;
    let [low, high] = [Infinity, 0];
    for (const entry of visible) {
      const quantiles = parseQuantiles(entry.row[column.name]);
      if (quantiles === null || quantiles.p99 <= 0) continue;
      low = Math.min(low, quantiles.p01 > 0 ? quantiles.p01 : quantiles.p99 / 1000);
      high = Math.max(high, quantiles.p99);
    }
    if (high > 0) next[column.name] = { low: 2 ** Math.floor(Math.log2(low)), high: 2 ** Math.ceil(Math.log2(high)) };
  }
  const same = Object.entries(next).every(([name, { low, high }]) => scales.current[name]?.low === low && scales.current[name]?.high === high);
  if (!same) scales.current = next;
  return scales.current;
}

const CELL_PADDING_PX = 26;
const WIDTH_MIN_PX = 56;
const WIDTH_MAX_PX = 320;
const PROBE_ROWS = 60;

let ruler: CanvasRenderingContext2D | null | undefined;
function textWidth(text: string): number {
  if (ruler === undefined) {
    ruler = document.createElement("canvas").getContext("2d");
    const { fontSize, fontFamily } = getComputedStyle(document.body);
    if (ruler !== null) ruler.font = `${fontSize} ${fontFamily}`;
  }
  return ruler?.measureText(text).width ?? text.length * 8;
}

/** Widths by content, growing only: a column that breathes with its numbers cannot be read. */
function useColumnWidths(store: TableStore, columns: readonly Column[], entries: readonly Entry[], available: number, hasGutter: boolean): { template: string; widthPx: number } {
  const widths = useRef<{ schema: unknown; px: number[] }>({ schema: null, px: [] });
  if (widths.current.schema !== store.schema.columns) widths.current = { schema: store.schema.columns, px: columns.map(() => 0) };
  columns.forEach((column, at) => {
    let px = Math.max(widths.current.px[at] ?? 0, textWidth(column.name) + CELL_PADDING_PX + 30);
    if (isQuantiles(column)) px = Math.max(px, 144);
    const mark = column.semantic === "SERVICE_NAME" || column.semantic === "HTTP_RESP_STATUS" ? 16 : 0;
    for (const entry of isQuantiles(column) ? [] : entries.slice(0, PROBE_ROWS)) {
      const text = plainText(entry.row[column.name], column);
      // Only a text that could be wider is measured: 11 px is wider than nearly every letter.
      if (px < WIDTH_MAX_PX && text.length * 11 + CELL_PADDING_PX + mark > px) px = Math.max(px, textWidth(text) + CELL_PADDING_PX + mark);
    }
    const capped = Math.ceil(Math.max(WIDTH_MIN_PX, Math.min(WIDTH_MAX_PX, px)) / 4) * 4;
    widths.current.px[at] = Math.max(widths.current.px[at] ?? 0, capped);
  });
  const gutter = hasGutter ? 28 : 0;
  const sum = widths.current.px.reduce((all, px) => all + px, gutter);
  // What is left goes to the text columns, so that numbers stay near their names.
  const flexible = columns.map((column) => !alignsRight(column) && !isQuantiles(column));
  const anyFlexible = flexible.some(Boolean);
  const tracks = widths.current.px.map((px, at) =>
    sum < available && (flexible[at] === true || !anyFlexible) ? `minmax(${px}px, ${px}fr)` : `${px}px`,
  );
  return { template: [...(hasGutter ? ["28px"] : []), ...tracks].join(" "), widthPx: Math.max(sum, Math.floor(available)) };
}

function keepInSight(scroller: HTMLDivElement | null, index: number): void {
  if (scroller === null) return;
  const top = index * ROW_PX;
  if (top < scroller.scrollTop) scroller.scrollTop = top;
  const bottom = top + ROW_PX + HEAD_PX;
  if (bottom > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = bottom - scroller.clientHeight;
}

/** Away from the top, the first line in sight stays where it is while lines come and go above it. */
function useAnchor(scroller: React.RefObject<HTMLDivElement | null>, entries: readonly Entry[], moved: (top: number) => void): void {
  const before = useRef<readonly Entry[]>(entries);
  useLayoutEffect(() => {
    const element = scroller.current;
    const old = before.current;
    before.current = entries;
    if (element === null || old === entries || element.scrollTop < ROW_PX) return;
    const anchor = old[Math.floor(element.scrollTop / ROW_PX)];
    if (anchor === undefined) return;
    const from = old.indexOf(anchor);
    const to = entries.findIndex((entry) => entry.id === anchor.id);
    if (to < 0 || to === from) return;
    element.scrollTop += (to - from) * ROW_PX;
    moved(element.scrollTop);
  }, [entries, scroller, moved]);
}
