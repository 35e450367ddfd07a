// Where the nodes of a map stand. Positions belong to nodes by name: numbers that change move
// nothing, a node that goes leaves its place to itself should it come back, and only a node or an
// edge never seen before lays the graph out anew (deterministically: order of arrival is no input).
import { Graph, layout as dagreLayout } from "@dagrejs/dagre";

export interface Point {
  readonly x: number;
  readonly y: number;
}
export interface Route {
  readonly points: readonly Point[];
  readonly label: Point;
  /** Where the ends stood when this way was found; moved since, the way no longer holds. */
  readonly from: Point;
  readonly to: Point;
}
export interface Size {
  readonly width: number;
  readonly height: number;
}
export interface LayoutNode extends Size {
  readonly id: string;
}
export interface LayoutEdge {
  readonly from: string;
  readonly to: string;
}

/** Names remembered beyond those drawn; more than this and the forgotten are dropped at the next layout. */
export const REMEMBERED_MAX = 2_000;

/** How much room a layout leaves. */
export interface Spacing {
  readonly rankGapPx: number;
  readonly nodeGapPx: number;
  /** Kept for an edge's label, so that labels lie on neither nodes nor each other. */
  readonly label: Size;
}
export const ROOMY: Spacing = { rankGapPx: 48, nodeGapPx: 24, label: { width: 76, height: 30 } };
/** For small widgets: the nodes stay legible, and edges speak only when something is wrong or pointed at. */
export const COMPACT: Spacing = { rankGapPx: 44, nodeGapPx: 16, label: { width: 0, height: 0 } };

const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
export const edgeKey = (edge: LayoutEdge): string => `${edge.from}\u0000${edge.to}`;

export class MapLayout {
  /** Every name with a place, drawn now or remembered. */
  readonly positions = new Map<string, Point>();
  /** The way of an edge around the nodes between its ends, by `edgeKey`. */
  readonly routes = new Map<string, Route>();
  /** Counts layouts, so that a drawing knows when to move. */
  generation = 0;
  private readonly knownEdges = new Set<string>();

  constructor(readonly spacing: Spacing = ROOMY) {}

  /** Takes the nodes and edges of now; true if places have changed. */
  update(nodes: readonly LayoutNode[], edges: readonly LayoutEdge[]): boolean {
    const isNew = nodes.some((node) => !this.positions.has(node.id)) || edges.some((edge) => !this.knownEdges.has(edgeKey(edge)));
    if (!isNew) return false;
    this.arrange(nodes, edges);
    return true;
  }

  /** Lays out from nothing but the graph itself. */
  arrange(nodes: readonly LayoutNode[], edges: readonly LayoutEdge[]): void {
    const graph = new Graph({ multigraph: false });
    graph.setGraph({ rankdir: "LR", ranksep: this.spacing.rankGapPx, nodesep: this.spacing.nodeGapPx, edgesep: 12, marginx: 0, marginy: 0 });
    graph.setDefaultEdgeLabel(() => ({}));
    const sorted = [...nodes].sort((a, b) => byText(a.id, b.id));
    for (const node of sorted) graph.setNode(node.id, { width: node.width, height: node.height });
    const sortedEdges = [...edges].sort((a, b) => byText(edgeKey(a), edgeKey(b)));
    for (const edge of sortedEdges) if (edge.from !== edge.to) graph.setEdge(edge.from, edge.to, { ...this.spacing.label, labelpos: "c" });
    dagreLayout(graph);
    if (this.positions.size > REMEMBERED_MAX) {
      this.positions.clear();
      this.knownEdges.clear();
    }
    for (const node of sorted) {
      const placed = graph.node(node.id) as unknown as Point;
      this.positions.set(node.id, { x: placed.x, y: placed.y });
    }
    this.routes.clear();
    for (const edge of edges) {
      this.knownEdges.add(edgeKey(edge));
      const way = edge.from === edge.to ? undefined : (graph.edge(edge.from, edge.to) as unknown as { points: Point[]; x?: number; y?: number });
      const [from, to] = [this.positions.get(edge.from), this.positions.get(edge.to)];
      if (way === undefined || from === undefined || to === undefined) continue;
      this.routes.set(edgeKey(edge), { points: way.points.map(({ x, y }) => ({ x, y })), label: labelPoint(way), from, to });
    }
    this.generation += 1;
  }

  /** A reader has put a node somewhere: it stays there until the next layout. */
  place(id: string, point: Point): void {
    this.positions.set(id, point);
  }
}

/** Without room for a label dagre names no place for it: the middle of the way then. */
function labelPoint(way: { readonly points: readonly Point[]; readonly x?: number; readonly y?: number }): Point {
  if (way.x !== undefined && way.y !== undefined) return { x: way.x, y: way.y };
  const middle = (way.points.length - 1) / 2;
  const [a, b] = [way.points[Math.floor(middle)], way.points[Math.ceil(middle)]];
  return a === undefined || b === undefined ? { x: 0, y: 0 } : { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
}

/** Where a new node comes into the picture: at a neighbour that is already there, else at its own place. */
export function entryPoint(id: string, edges: readonly LayoutEdge[], shown: ReadonlyMap<string, Point>, own: Point): Point {
  for (const edge of edges) {
    const peer = edge.from === id ? edge.to : edge.to === id ? edge.from : null;
    const point = peer === null ? undefined : shown.get(peer);
    if (point !== undefined) return point;
  }
  return own;
}

const near = (a: Point, b: Point): boolean => Math.abs(a.x - b.x) < 0.5 && Math.abs(a.y - b.y) < 0.5;

/** The route of an edge if its ends, as drawn, stand where the route was found. */
export function validRoute(layout: MapLayout, edge: LayoutEdge, from: Point, to: Point): Route | null {
  const route = layout.routes.get(edgeKey(edge));
  return route !== undefined && near(route.from, from) && near(route.to, to) ? route : null;
}

/** A smooth line that stays inside of its points' hull (a uniform B-spline), so it cuts no corner into a node. */
export function smoothPath(points: readonly Point[]): string {
  const [first, ...rest] = points;
  const last = rest.pop();
  if (first === undefined || last === undefined) return "";
  const at = (x: number, y: number): string => `${x.toFixed(1)} ${y.toFixed(1)}`;
  const all = [first, first, ...rest, last, last];
  let path = `M${at(first.x, first.y)}`;
  for (let i = 1; i + 2 <= all.length; i += 1) {
    const [a, b, c] = [all[i - 1] ?? first, all[i] ?? first, all[i + 1] ?? last];
    if (i === 1) path += `L${at((5 * b.x + c.x) / 6, (5 * b.y + c.y) / 6)}`;
    else path += `C${at((2 * a.x + b.x) / 3, (2 * a.y + b.y) / 3)} ${at((a.x + 2 * b.x) / 3, (a.y + 2 * b.y) / 3)} ${at((a.x + 4 * b.x + c.x) / 6, (a.y + 4 * b.y + c.y) / 6)}`;
  }
  return `${path}L${at(last.x, last.y)}`;
}

export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export function boundsOf(nodes: readonly LayoutNode[], positions: ReadonlyMap<string, Point>): Box {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const node of nodes) {
    const at = positions.get(node.id);
    if (at === undefined) continue;
    left = Math.min(left, at.x - node.width / 2);
    right = Math.max(right, at.x + node.width / 2);
    top = Math.min(top, at.y - node.height / 2);
    bottom = Math.max(bottom, at.y + node.height / 2);
  }
  return left > right ? { x: 0, y: 0, width: 1, height: 1 } : { x: left, y: top, width: right - left, height: bottom - top };
}
