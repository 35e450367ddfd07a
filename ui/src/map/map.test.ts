import { describe, expect, it } from "vitest";
import type { Entry } from "../live/table-store";
import type { Column, Row, SchemaMessage } from "../protocol";
import { entryPoint, MapLayout, smoothPath, validRoute, type LayoutEdge, type LayoutNode, type Point } from "./layout";
import { NODES_MAX, requestGraph } from "./model";

const node = (id: string): LayoutNode => ({ id, width: 120, height: 40 });
const edge = (from: string, to: string): LayoutEdge => ({ from, to });
const NODES = ["a", "b", "c", "d"].map(node);
const EDGES = [edge("a", "b"), edge("a", "c"), edge("b", "d"), edge("c", "d"), edge("d", "a"), edge("b", "b")];

describe("map layout", () => {
  // Catches: a map that trembles or jumps because rows come in another order.
  it("does not depend on the order of rows", () => {
    const [one, two] = [new MapLayout(), new MapLayout()];
    one.update(NODES, EDGES);
    two.update([...NODES].reverse(), [...EDGES].reverse());
    expect(Object.fromEntries(two.positions)).toEqual(Object.fromEntries(one.positions));
  });

  it("moves nothing while the structure stays", () => {
    const layout = new MapLayout();
    expect(layout.update(NODES, EDGES)).toBe(true);
    const before = new Map(layout.positions);
    expect(layout.update(NODES, EDGES)).toBe(false);
    expect(layout.generation).toBe(1);
    expect(layout.positions).toEqual(before);
  });

  // Catches: the whole map rearranged because one quiet service fell out of the window for a second.
  it("keeps every place when a node goes and comes back", () => {
    const layout = new MapLayout();
    layout.update(NODES, EDGES);
    const before = new Map(layout.positions);
    expect(layout.update(NODES.slice(0, 3), EDGES.slice(0, 2))).toBe(false);
    expect(layout.update(NODES, EDGES)).toBe(false);
    expect(layout.positions).toEqual(before);
  });

  it("lays out again for a new node or a new edge, without overlaps", () => {
    const layout = new MapLayout();
    layout.update(NODES, EDGES);
    expect(layout.update(NODES, [...EDGES, edge("a", "d")])).toBe(true);
    const more = [...NODES, node("e")];
    expect(layout.update(more, [...EDGES, edge("d", "e")])).toBe(true);
    const points = more.map((each) => layout.positions.get(each.id));
    points.forEach((p, i) => points.slice(i + 1).forEach((q) => {
      expect(Math.abs((p?.x ?? 0) - (q?.x ?? 0)) >= 120 || Math.abs((p?.y ?? 0) - (q?.y ?? 0)) >= 40).toBe(true);
    }));
  });

  it("lets a new node enter at its peer", () => {
    const shown = new Map([["d", { x: 7, y: 8 }]]);
    expect(entryPoint("e", [edge("d", "e")], shown, { x: 0, y: 0 })).toEqual({ x: 7, y: 8 });
    expect(entryPoint("f", [edge("g", "f")], shown, { x: 1, y: 2 })).toEqual({ x: 1, y: 2 });
  });
});

const column = (name: string, semantic = "NONE"): Column => ({ name, type: "STRING", semantic, desc: "" });
const SCHEMA: SchemaMessage = {
  type: "schema", id: "q", table: "T", key: [], widgets: [], window: null,
  columns: [column("from", "SERVICE_NAME"), column("to", "SERVICE_NAME"), column("rps", "THROUGHPUT_PER_NS"), column("err", "PERCENT"), column("p99", "DURATION_NS")],
};
const SPEC = {
  requestorServiceColumn: "from", responderServiceColumn: "to", requestsPerSecondColumn: "rps", errorRateColumn: "err", p99Column: "p99",
};
const entry = (row: Row, id: number): Entry => ({ id, text: String(id), row, count: 1, bornAtMs: 0, changes: 0, changedAtMs: {} });

describe("map model", () => {
  // Catches: shares averaged without weight when several rows make one edge.
  it("adds up rows of one pair and weighs error shares", () => {
    const rows = [
      { from: "ns/a", to: "ns/b", rps: 9e-9, err: 0, p99: 2e6 },
      { from: "ns/a", to: "ns/b", rps: 1e-9, err: 0.5, p99: 5e6 },
    ].map(entry);
    const model = requestGraph(rows, SPEC, SCHEMA, "services", new Set());
    expect(model.edges).toHaveLength(1);
    expect(model.edges[0]).toMatchObject({ from: "ns/a", to: "ns/b", level: "high", label: "5.00 ms", alarm: "5.00 % errors" });
    expect(model.nodes.map(({ label, group, caption }) => [label, group, caption])).toEqual([["a", "ns", "10.0/s out"], ["b", "ns", "10.0/s in"]]);
  });

  it("folds into namespaces when there are too many nodes, and opens one of them", () => {
    const rows = Array.from({ length: NODES_MAX }, (_, i) => entry({ from: "web/front", to: `shop/s${i}`, rps: 1e-9, err: 0, p99: 1 }, i));
    const folded = requestGraph(rows, SPEC, SCHEMA, "services", new Set());
    expect(folded.grouped).toBe(true);
    expect(folded.nodes.map((each) => each.id).sort()).toEqual(["shop", "web"]);
    expect(requestGraph(rows, SPEC, SCHEMA, "services", new Set(["shop"])).nodes).toHaveLength(NODES_MAX + 1);
  });
});

describe("routes", () => {
  // Catches: an edge drawn straight through a node that stands between its ends.
  it("lead around nodes and hold only while the ends stay", () => {
    const layout = new MapLayout();
    const nodes = ["a", "b", "c"].map(node);
    const edges = [edge("a", "b"), edge("b", "c"), edge("a", "c")];
    layout.update(nodes, edges);
    const [a, b, c] = ["a", "b", "c"].map((id) => layout.positions.get(id) ?? { x: 0, y: 0 }) as [Point, Point, Point];
    const route = validRoute(layout, edge("a", "c"), a, c);
    const crossing = route?.points.filter((point) => Math.abs(point.x - b.x) < 60 && Math.abs(point.y - b.y) < 20);
    expect(crossing).toEqual([]);
    expect(smoothPath(route?.points ?? [])).toMatch(/^M[\d. -]+L.*L[\d. -]+$/);
    expect(validRoute(layout, edge("a", "c"), a, { ...c, y: c.y + 9 })).toBeNull();
  });
});
