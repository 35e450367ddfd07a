// Which widget shows which table, and where on the grid. Pure.
import type { DisplaySpec, SchemaMessage, Vis, VisWidget } from "../protocol";

export type Kind = "table" | "timeseries" | "requestgraph" | "graph" | "histogram" | "bar" | "stat" | "text" | "other";
export interface Placed {
  readonly key: string;
  readonly title: string;
  readonly table: string;
  readonly kind: Kind;
  /** The display's own name, for the note where it is shown as a table instead. */
  readonly display: string;
  readonly spec: DisplaySpec;
  readonly x: number;
  readonly y: number;
  readonly w: number;
  readonly h: number;
}
export interface Grid {
  readonly items: readonly Placed[];
  readonly columns: number;
  readonly rows: number;
}

export const COLUMNS = 12;
const DEFAULT_HEIGHT = 4;

const KINDS: Readonly<Record<string, Kind>> = {
  Table: "table", TimeseriesChart: "timeseries", RequestGraph: "requestgraph", Graph: "graph", HistogramChart: "histogram",
  BarChart: "bar", StatChart: "stat", TextChart: "text",
};

/** What moves with the frontier even if no row changes. */
export const MOVING: ReadonlySet<Kind> = new Set<Kind>(["timeseries"]);

const displayOf = (spec: DisplaySpec | undefined): string => (spec?.["@type"] ?? "Table").replace(/^.*\./, "");

/** The output table of a widget, by the rules of vis files. */
export function tableOf(widget: VisWidget, index: number): string {
  return widget.globalFuncOutputName ?? (widget.name !== undefined && widget.name !== "" ? widget.name : `widget_${index}`);
}

export function place(vis: Vis | null, schemas: readonly SchemaMessage[]): Grid {
  const known = new Map(schemas.map((schema) => [schema.table, schema]));
  const widgets = vis?.widgets ?? [];
  const items: Placed[] = [];
  const shown = new Set<string>();
  let bottom = 0;
  const add = (widget: VisWidget, table: string, index: number): void => {
    const display = displayOf(widget.displaySpec);
    const at = widget.position;
    const spec = widget.displaySpec ?? {};
    const own = typeof spec["title"] === "string" && spec["title"] !== "" ? spec["title"] : widget.name;
    const item = {
      key: `${index}:${table}`, title: own !== undefined && own !== "" ? own : table, table, display, kind: KINDS[display] ?? "other", spec,
      x: at === undefined ? 0 : (at.x ?? 0), y: at === undefined ? bottom : (at.y ?? 0),
      w: Math.max(1, at?.w ?? COLUMNS), h: Math.max(1, at?.h ?? DEFAULT_HEIGHT),
    };
    items.push(item);
    shown.add(table);
    bottom = Math.max(bottom, item.y + item.h);
  };
  widgets.forEach((widget, index) => {
    const name = tableOf(widget, index);
    add(widget, known.has(name) || !known.has(`${name}[0]`) ? name : `${name}[0]`, index);
  });
  // Without a vis file (or for what it does not show): the server's word on the table, else the plain table.
  for (const schema of schemas) {
    if (shown.has(schema.table)) continue;
    const own = vis === null ? schema.widgets : [];
    if (own.length === 0) add({ name: schema.table, position: { x: 0, y: bottom, w: COLUMNS, h: DEFAULT_HEIGHT } }, schema.table, items.length);
    for (const widget of own) add(widget, schema.table, items.length);
  }
  const columns = items.reduce((most, item) => Math.max(most, item.x + item.w), COLUMNS);
  return { items, columns, rows: bottom };
}
