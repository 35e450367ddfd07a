import { describe, expect, it } from "vitest";
import type { SchemaMessage } from "../protocol";
import { place } from "./place";

const schema = (table: string): SchemaMessage => ({ type: "schema", id: "q", table, columns: [], key: [], window: null, widgets: [] });
const func = { name: "f" };

describe("placing widgets", () => {
  // Catches: an output that nobody sees because no widget names it.
  it("shows every table, by its widget or as a table below", () => {
    const grid = place({ widgets: [{ name: "A", func, position: { w: 6, h: 3 } }, { globalFuncOutputName: "LET", position: { x: 6, w: 9, h: 3 } }] }, [schema("A"), schema("LET"), schema("extra")]);
    expect(grid.items.map(({ table, x, y, w }) => [table, x, y, w])).toEqual([["A", 0, 0, 6], ["LET", 6, 0, 9], ["extra", 0, 3, 12]]);
    expect(grid.columns).toBe(15);
  });

  it("knows nameless widgets, lists of outputs and displays it cannot draw", () => {
    const grid = place({ widgets: [{ func }, { name: "L", func, displaySpec: { "@type": "types.px.dev/px.vispb.VegaChart" } }] }, [schema("widget_0"), schema("L[0]"), schema("L[1]")]);
    expect(grid.items.map(({ table, kind, display }) => [table, kind, display])).toEqual([
      ["widget_0", "table", "Table"], ["L[0]", "other", "VegaChart"], ["L[1]", "table", "Table"],
    ]);
  });
});
