// The order of a table's lines. Sorting by a column whose numbers change would make lines dance, so
// such a table sorts anew at most once a second; between, lines keep their places.
import type { Entry, TableStore } from "../live/table-store";
import type { Column } from "../protocol";
import { compareValues } from "../format/semantic";

export interface Sort {
  readonly column: string;
  readonly descending: boolean;
}

export const RESORT_EVERY_MS = 1_000;
/** Up to here every frame may sort by a column that does not change. */
const SORT_FREELY_MAX = 5_000;

/** Newest first where rows have a time of their own, else by key, else as they came. */
export function defaultSort(store: TableStore): Sort | null {
  const { columns, key } = store.schema;
  const time = columns.find((column) => column.name === "time_");
  if (time !== undefined) return { column: time.name, descending: true };
  const first = key[0];
  return first === undefined ? null : { column: first, descending: false };
}

export const isVolatile = (store: TableStore, column: string): boolean =>
  store.schema.key.length > 0 && !store.schema.key.includes(column) && column !== "time_";

const matches = (entry: Entry, needle: string): boolean => entry.text.toLowerCase().includes(needle);

const filtered = new WeakMap<TableStore, { readonly version: number; readonly needle: string; readonly entries: readonly Entry[] }>();

/** The lines that a filter leaves: looked for once a picture, whoever asks. */
function left(store: TableStore, needle: string): readonly Entry[] {
  const have = filtered.get(store);
  if (have?.version === store.version && have.needle === needle) return have.entries;
  const entries = store.rows().filter((entry) => matches(entry, needle));
  filtered.set(store, { version: store.version, needle, entries });
  return entries;
}

export class Order {
  private entries: Entry[] = [];
  private sortedAtMs = Number.NEGATIVE_INFINITY;
  private recipe = "";

  /** How many of a store's lines a filter leaves. */
  static matching(store: TableStore, filter: string): number {
    const needle = filter.trim().toLowerCase();
    const sum = (total: number, entry: Entry): number => total + entry.count;
    return needle === "" ? store.total : left(store, needle).reduce(sum, 0);
  }

  /** The picture's lines in order. `nowMs` is the performance clock. */
  of(store: TableStore, sort: Sort | null, filter: string, nowMs: number): Entry[] {
    const needle = filter.trim().toLowerCase();
    const rows = needle === "" ? store.rows() : [...left(store, needle)];
    const recipe = `${sort?.column ?? ""} ${sort?.descending ?? ""} ${needle}`;
    const calm = sort === null || (!isVolatile(store, sort.column) && rows.length <= SORT_FREELY_MAX);
    const due = recipe !== this.recipe || calm || nowMs - this.sortedAtMs >= RESORT_EVERY_MS;
    this.recipe = recipe;
    if (due) {
      this.sortedAtMs = nowMs;
      this.entries = sorted(rows, store, sort);
    } else {
      const byId = new Map(rows.map((entry) => [entry.id, entry]));
      const kept = this.entries.flatMap((entry) => {
        const now = byId.get(entry.id);
        byId.delete(entry.id);
        return now === undefined ? [] : [now];
      });
      this.entries = [...kept, ...byId.values()];
    }
    return this.entries;
  }
}

function sorted(rows: Entry[], store: TableStore, sort: Sort | null): Entry[] {
  const column: Column | undefined = sort === null ? undefined : store.column(sort.column);
  if (sort === null || column === undefined) return rows.sort((a, b) => a.id - b.id);
  const sign = sort.descending ? -1 : 1;
  // Equal values keep a place of their own: ids make the order total.
  return rows.sort((a, b) => sign * compareValues(a.row[sort.column], b.row[sort.column], column) || sign * (a.id - b.id));
}
