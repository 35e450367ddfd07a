// One output table as a multiset that is kept true by changes.
//
// Three layers, so that a reader never sees half a refresh:
//   incoming  what arrived since the last progress message (may hold negative counts for a moment)
//   ready     consolidated changes up to a progress message, not drawn yet (grows while paused, but
//             never beyond the rows that differ between the picture and the truth)
//   entries   the picture
// A row is known by its canonical text. A row that leaves and one that enters with the same key
// columns in one step are the same line of the table: it keeps its id (selection, scroll position)
// and remembers which cells changed when.
import type { Change, Column, Row, SchemaMessage, Value } from "../protocol";

/** Above this many distinct rows a table is refused: a page that swaps helps nobody; the hint says to use head. */
export const TABLE_ROWS_MAX = 1_000_000;

export interface Entry {
  readonly id: number;
  readonly text: string;
  readonly row: Row;
  readonly count: number;
  /** When this line came into the picture (performance clock, ms); 0 for a snapshot's rows. */
  readonly bornAtMs: number;
  /** How often the line has changed: alternates the two names of the fade, so that it restarts. */
  readonly changes: number;
  readonly changedAtMs: Readonly<Record<string, number>>;
}

interface Delta {
  readonly row: Row;
  diff: number;
}

function cellText(value: Value | undefined): string {
  if (typeof value === "string") return JSON.stringify(value);
  return value === undefined ? "null" : String(value);
}

export function canonicalText(row: Row, columns: readonly string[]): string {
  let text = "";
  for (const name of columns) text += `${cellText(row[name])},`;
  return text;
}

const NEVER: Readonly<Record<string, number>> = {};

export class TableStore {
  readonly name: string;
  schema: SchemaMessage;
  version = 0;
  /** Rows in the picture, repeated rows counted as often as they occur. */
  total = 0;
  /** Rows with a negative count at a progress message: the server broke its promise. */
  violations = 0;
  refused = false;

  private columns: readonly string[];
  private entries = new Map<string, Entry>();
  private incoming = new Map<string, Delta>();
  private incomingFresh = true;
  private ready = new Map<string, Delta>();
  private readyFresh = false;
  private nextId = 1;
  private drawn = false;
  private readonly listeners = new Set<() => void>();

  constructor(schema: SchemaMessage) {
    this.name = schema.table;
    this.schema = schema;
    this.columns = schema.columns.map((column) => column.name);
  }

  /** A schema message: a snapshot follows that replaces the picture once it is whole. */
  begin(schema: SchemaMessage): void {
    const columns = schema.columns.map((column) => column.name);
    if (columns.join("\n") !== this.columns.join("\n")) {
      this.entries.clear();
      this.total = 0;
      this.drawn = false;
    }
    this.schema = schema;
    this.columns = columns;
    this.incoming.clear();
    this.incomingFresh = true;
    this.refused = false;
    this.ready.clear();
    this.readyFresh = false;
    this.version += 1;
  }

  apply(changes: readonly Change[]): void {
    if (this.refused) return;
    for (const [diff, row] of changes) {
      const text = canonicalText(row, this.columns);
      const delta = this.incoming.get(text);
      if (delta === undefined) this.incoming.set(text, { row, diff: Number(diff) });
      else if (delta.diff + Number(diff) === 0) this.incoming.delete(text);
      else delta.diff += Number(diff);
    }
    if (this.incoming.size + this.entries.size > 2 * TABLE_ROWS_MAX) {
      this.refused = true;
      this.incoming.clear();
    }
  }

  /** A progress message: what has arrived is consistent and may be drawn. */
  seal(): void {
    if (this.incomingFresh) {
      this.ready = this.incoming;
      this.readyFresh = true;
    } else if (this.ready.size === 0) {
      this.ready = this.incoming;
    } else {
      for (const [text, { row, diff }] of this.incoming) {
        const delta = this.ready.get(text);
        if (delta === undefined) this.ready.set(text, { row, diff });
        else if (delta.diff + diff === 0) this.ready.delete(text);
        else delta.diff += diff;
      }
    }
    this.incoming = new Map();
    this.incomingFresh = false;
  }

  /** Changed rows that wait to be drawn. */
  get waiting(): number {
    return this.ready.size;
  }

  get hasReady(): boolean {
    return this.readyFresh || this.ready.size > 0;
  }

  /** Brings the picture up to what is sealed. `nowMs` is the performance clock. */
  publish(nowMs: number): boolean {
    if (!this.hasReady) return false;
    const changes = this.readyFresh ? this.differenceTo(this.ready) : this.ready;
    const atMs = this.readyFresh ? 0 : nowMs;
    this.ready = new Map();
    this.readyFresh = false;
    const touched = this.applyToPicture(changes, atMs);
    const first = !this.drawn;
    this.drawn = true;
    if (!touched && !first) return false;
    this.version += 1;
    return true;
  }

  /** What turns the picture into `target`: a new snapshot replaces the old one without a blink. */
  private differenceTo(target: Map<string, Delta>): Map<string, Delta> {
    const changes = new Map<string, Delta>();
    for (const entry of this.entries.values()) {
      const diff = (target.get(entry.text)?.diff ?? 0) - entry.count;
      if (diff !== 0) changes.set(entry.text, { row: entry.row, diff });
    }
    for (const [text, delta] of target) if (!this.entries.has(text)) changes.set(text, delta);
    return changes;
  }

  private applyToPicture(changes: Map<string, Delta>, atMs: number): boolean {
    const leaving: Entry[] = [];
    const entering: { text: string; row: Row; count: number }[] = [];
    for (const [text, { row, diff }] of changes) {
      const entry = this.entries.get(text);
      const before = entry?.count ?? 0;
      const count = before + diff;
      this.total += Math.max(count, 0) - Math.max(before, 0);
      if (count < 0 && before >= 0) this.violations += 1;
      if (before < 0 && count >= 0) this.violations -= 1;
      if (entry === undefined) {
        entering.push({ text, row, count });
      } else if (count === 0) {
        this.entries.delete(text);
        if (before > 0) leaving.push(entry);
      } else {
        this.entries.set(text, { ...entry, count });
      }
    }
    const left = this.byKey(leaving);
    for (const { text, row, count } of entering) {
      const previous = count > 0 ? left.get(canonicalText(row, this.schema.key))?.pop() : undefined;
      this.entries.set(text, this.enter(text, row, count, previous, atMs));
    }
    return changes.size > 0;
  }

  private byKey(leaving: readonly Entry[]): Map<string, Entry[]> {
    const byKey = new Map<string, Entry[]>();
    if (this.schema.key.length === 0) return byKey;
    for (const entry of leaving) {
      const key = canonicalText(entry.row, this.schema.key);
      const same = byKey.get(key);
      if (same === undefined) byKey.set(key, [entry]);
      else same.push(entry);
    }
    return byKey;
  }

  private enter(text: string, row: Row, count: number, previous: Entry | undefined, atMs: number): Entry {
    if (previous === undefined) {
      this.nextId += 1;
      return { id: this.nextId, text, row, count, bornAtMs: atMs, changes: 0, changedAtMs: NEVER };
    }
    const changedAtMs: Record<string, number> = { ...previous.changedAtMs };
    if (atMs > 0) for (const name of this.columns) if (previous.row[name] !== row[name]) changedAtMs[name] = atMs;
    return { id: previous.id, text, row, count, bornAtMs: previous.bornAtMs, changes: previous.changes + 1, changedAtMs };
  }

  /** The picture's rows, in no particular order; those of a positive count only. */
  rows(): Entry[] {
    const rows: Entry[] = [];
    for (const entry of this.entries.values()) if (entry.count > 0) rows.push(entry);
    return rows;
  }

  /** True once a snapshot has been drawn: an empty table is then truly empty. */
  get isDrawn(): boolean {
    return this.drawn;
  }

  column(name: string): Column | undefined {
    return this.schema.columns.find((column) => column.name === name);
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };
  readonly getVersion = (): number => this.version;

  notify(): void {
    for (const listener of this.listeners) listener();
  }
}
