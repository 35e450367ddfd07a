import { describe, expect, it } from "vitest";
import type { Entry } from "../live/table-store";
import type { Row, SchemaMessage } from "../protocol";
import { bars, histogram, stack, timeSeries } from "./series";

const entry = (row: Row, id: number): Entry => ({ id, text: String(id), row, count: 1, bornAtMs: 0, changes: 0, changedAtMs: {} });
const schema: SchemaMessage = {
  type: "schema", id: "q", table: "T", key: [], widgets: [], window: null,
  columns: [{ name: "p99", type: "FLOAT64", semantic: "DURATION_NS", desc: "" }, { name: "code", type: "STRING", semantic: "NONE", desc: "" }],
};
const at = (second: number): string => `2026-01-01T00:00:0${second}.000000000Z`;

describe("chart data", () => {
  // Catches: lines joined across a gap, or points moved to another instant.
  it("puts every value at its instant and leaves holes", () => {
    const rows = [[2, "b", 5], [1, "a", 1], [2, "a", 2], [3, "b", 7]].map(([t, s, v], id) => entry({ time_: at(t as number), s: s as string, p99: v as number }, id));
    const chart = timeSeries(rows, { timeseries: [{ value: "p99", series: "s" }] }, schema);
    expect(chart.series.map(({ name, values }) => [name, values])).toEqual([["a", [1, 2, null]], ["b", [null, 5, 7]]]);
    expect(chart.semantic).toBe("DURATION_NS");
    expect(stack(chart.series)).toEqual([[1, 2, 0], [1, 7, 7]]);
  });

  it("bins counts that are binned already, losing none", () => {
    const rows = Array.from({ length: 60 }, (_, i) => entry({ latency: i * 1e6, n: i }, i));
    const { bins } = histogram(rows, { histogram: { value: "latency", prebinCount: "n", maxbins: 10 } });
    expect(bins.length).toBeLessThanOrEqual(13);
    expect(bins.reduce((sum, bin) => sum + bin.count, 0)).toBe((59 * 60) / 2);
    expect(histogram([], {}).bins).toEqual([]);
    expect(histogram([entry({ latency: 5, n: 2 }, 1)], { histogram: { value: "latency", prebinCount: "n" } }).bins).toHaveLength(1);
  });

  it("adds bars by label and stack, labels in numeric order", () => {
    const rows = [["503", "x", 1], ["200", "x", 5], ["200", "y", 2], ["1000", "y", 1]].map(([code, s, n], id) => entry({ code: code as string, s: s as string, n: n as number }, id));
    const chart = bars(rows, { bar: { value: "n", label: "code", stackBy: "s" } }, schema);
    expect(chart.bars.map(({ label, total }) => [label, total])).toEqual([["200", 7], ["503", 1], ["1000", 1]]);
    expect(chart.stacks).toEqual(["x", "y"]);
  });
});
