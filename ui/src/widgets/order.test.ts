import { describe, expect, it } from "vitest";
import { TableStore } from "../live/table-store";
import type { Change } from "../protocol";
import { Order, RESORT_EVERY_MS } from "./order";

function store(key: string[]): TableStore {
  return new TableStore({
    type: "schema", id: "q", table: "T", key, window: null, widgets: [],
    columns: [{ name: "s", type: "STRING", semantic: "NONE", desc: "" }, { name: "n", type: "INT64", semantic: "NONE", desc: "" }],
  });
}
function feed(table: TableStore, changes: Change[]): void {
  table.apply(changes);
  table.seal();
  table.publish(1);
}
const names = (entries: readonly { row: Record<string, unknown> }[]): string => entries.map(({ row }) => row["s"]).join("");

describe("order of lines", () => {
  // Catches: lines that dance under the reader's pointer ten times a second.
  it("sorts by a changing column at most once a second and keeps places between", () => {
    const table = store(["s"]);
    const order = new Order();
    const sort = { column: "n", descending: true };
    feed(table, [[1, { s: "a", n: 3 }], [1, { s: "b", n: 2 }], [1, { s: "c", n: 1 }]]);
    expect(names(order.of(table, sort, "", 0))).toBe("abc");
    feed(table, [[-1, { s: "c", n: 1 }], [1, { s: "c", n: 9 }], [-1, { s: "b", n: 2 }], [1, { s: "d", n: 5 }]]);
    const between = order.of(table, sort, "", RESORT_EVERY_MS - 1);
    expect(names(between)).toBe("acd");
    expect(between[1]?.row["n"]).toBe(9);
    expect(names(order.of(table, sort, "", RESORT_EVERY_MS))).toBe("cda");
  });

  it("sorts at once when the reader asks for another order or filter", () => {
    const table = store(["s"]);
    const order = new Order();
    feed(table, [[1, { s: "a", n: 3 }], [1, { s: "b", n: 20 }]]);
    order.of(table, { column: "n", descending: true }, "", 0);
    expect(names(order.of(table, { column: "n", descending: false }, "", 1))).toBe("ab");
    expect(names(order.of(table, { column: "n", descending: false }, "B", 2))).toBe("b");
  });

  // Catches: a store that is searched once for its lines and once more for their number.
  it("looks through a store once a picture", () => {
    const table = store(["s"]);
    const order = new Order();
    feed(table, [[1, { s: "a", n: 3 }], [2, { s: "b", n: 20 }]]);
    let looks = 0;
    const rows = table.rows.bind(table);
    table.rows = () => { looks += 1; return rows(); };
    expect(names(order.of(table, null, "b", 0))).toBe("b");
    expect(Order.matching(table, "b")).toBe(2);
    expect(looks).toBe(1);
    feed(table, [[1, { s: "bb", n: 1 }]]);
    expect(Order.matching(table, "b")).toBe(3);
    expect(looks).toBe(2);
  });
});
