import { describe, expect, it } from "vitest";
import type { Change, Column, Row, SchemaMessage } from "../protocol";
import { TableStore } from "./table-store";

const column = (name: string): Column => ({ name, type: "STRING", semantic: "NONE", desc: "" });
const schema = (key: string[]): SchemaMessage => ({
  type: "schema", id: "q1", table: "T", columns: [column("service"), column("n")], key, window: null, widgets: [],
});
const row = (service: string, n: number | bigint): Row => ({ service, n });
const picture = (store: TableStore): string[] =>
  store.rows().map((entry) => `${entry.count}×${String(entry.row["service"])}=${String(entry.row["n"])}`).sort();

function filled(key: string[], changes: Change[]): TableStore {
  const store = new TableStore(schema(key));
  store.apply(changes);
  store.seal();
  store.publish(1);
  return store;
}

describe("TableStore", () => {
  // Catches: drawing half a refresh (a retraction whose insertion has not arrived yet).
  it("draws nothing between progress messages", () => {
    const store = filled(["service"], [[1, row("a", 1)]]);
    store.apply([[-1, row("a", 1)]]);
    expect(store.publish(2)).toBe(false);
    expect(picture(store)).toEqual(["1×a=1"]);
    store.apply([[1, row("a", 2)]]);
    store.seal();
    expect(store.publish(3)).toBe(true);
    expect(picture(store)).toEqual(["1×a=2"]);
  });

  // Catches: order dependence inside a refresh, and retractions that come before their insertions.
  it("gives the same picture in any order of the same changes", () => {
    const changes: Change[] = [[1, row("a", 1)], [2, row("b", 1)], [-1, row("a", 1)], [-1, row("b", 1)], [1, row("c", 9)]];
    expect(picture(filled([], changes))).toEqual(picture(filled([], [...changes].reverse())));
    expect(picture(filled([], changes))).toEqual(["1×b=1", "1×c=9"]);
  });

  it("counts equal rows as often as they occur", () => {
    const store = filled([], [[3, row("a", 1)], [1, row("b", 1)]]);
    expect(store.total).toBe(4);
    store.apply([[-2, row("a", 1)]]);
    store.seal();
    store.publish(2);
    expect(picture(store)).toEqual(["1×a=1", "1×b=1"]);
    expect(store.total).toBe(2);
  });

  // Catches: lost selection and scroll position when a group's numbers change.
  it("keeps a line's id by key and says which cells changed", () => {
    const store = filled(["service"], [[1, row("a", 1)], [1, row("b", 1)]]);
    const before = store.rows().find((entry) => entry.row["service"] === "a");
    store.apply([[-1, row("a", 1)], [1, row("a", 2)]]);
    store.seal();
    store.publish(500);
    const after = store.rows().find((entry) => entry.row["service"] === "a");
    expect(after?.id).toBe(before?.id);
    expect(after?.changedAtMs).toEqual({ n: 500 });
  });

  // Catches: a picture that doubles, blinks or keeps dead rows after a reconnection.
  it("replaces the picture by a new snapshot and keeps ids", () => {
    const store = filled(["service"], [[1, row("a", 1)], [1, row("b", 1)]]);
    const id = store.rows().find((entry) => entry.row["service"] === "b")?.id;
    store.begin(schema(["service"]));
    store.apply([[1, row("b", 7)], [1, row("c", 1)]]);
    expect(picture(store)).toEqual(["1×a=1", "1×b=1"]);
    store.seal();
    store.publish(2);
    expect(picture(store)).toEqual(["1×b=7", "1×c=1"]);
    expect(store.rows().find((entry) => entry.row["service"] === "b")?.id).toBe(id);
    expect(store.total).toBe(2);
  });

  // Catches: a server's broken promise passing silently, or a negative row drawn.
  it("hides rows of a negative count and counts them until they are made good", () => {
    const store = filled([], [[-1, row("a", 1)], [1, row("b", 1)]]);
    expect(picture(store)).toEqual(["1×b=1"]);
    expect(store.violations).toBe(1);
    store.apply([[1, row("a", 1)]]);
    store.seal();
    store.publish(2);
    expect(store.violations).toBe(0);
    expect(picture(store)).toEqual(["1×b=1"]);
  });

  // Catches: memory that grows with the length of a pause instead of with the difference.
  it("consolidates while it is not drawn", () => {
    const store = filled(["service"], [[1, row("a", 0)]]);
    for (let n = 0; n < 1000; n += 1) {
      store.apply([[-1, row("a", n)], [1, row("a", n + 1)]]);
      store.seal();
    }
    expect(store.waiting).toBe(2);
    store.publish(2);
    expect(picture(store)).toEqual(["1×a=1000"]);
  });

  it("tells integers beyond 2^53 apart", () => {
    const store = filled([], [[1, row("a", 9007199254740993n)], [1, row("a", 9007199254740992n)]]);
    expect(store.rows()).toHaveLength(2);
  });
});
