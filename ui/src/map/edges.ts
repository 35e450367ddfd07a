// The way of an edge between two nodes as they are drawn: the layout's own around the nodes between, or, once a reader
// has moved an end, a curve. Knows nothing of what stands on it.
import { alongCurve, alongPoints } from "./labels";
import { smoothPath, validRoute, type LayoutEdge, type MapLayout, type Point } from "./layout";

export const NODE_HEIGHT = 44;
/** Two edges between the same nodes keep so far from each other. */
const LIFT_PX = 8;

export interface Way {
  /** For SVG. */
  readonly path: string;
  readonly along: (part: number) => Point;
}

interface Ends {
  readonly from: Point;
  readonly to: Point;
  readonly fromWidth: number;
  readonly toWidth: number;
  readonly twoWay: boolean;
}

export function wayOf(edge: LayoutEdge, layout: MapLayout, ends: Ends): Way {
  const { from, to } = ends;
  if (edge.from === edge.to) {
    const [x, y] = [from.x, from.y - NODE_HEIGHT / 2];
    return { path: `M${x - 16} ${y}C${x - 28} ${y - 34} ${x + 28} ${y - 34} ${x + 16} ${y - 2}`, along: () => ({ x, y: y - 26 }) };
  }
  const route = validRoute(layout, edge, from, to);
  if (route === null) return curve(ends);
  // The layout keeps room for a label at one place of the way.
  return { path: smoothPath(route.points), along: (part) => (part === 0.5 ? route.label : alongPoints(route.points, part)) };
}

function curve({ from, to, fromWidth, toWidth, twoWay }: Ends): Way {
  const side = to.x >= from.x ? 1 : -1;
  const lift = twoWay ? LIFT_PX * side : 0;
  const start = { x: from.x + (side * fromWidth) / 2, y: from.y + lift };
  const end = { x: to.x - side * (toWidth / 2 + 2), y: to.y + lift };
  const overlap = (end.x - start.x) * side < 24;
  const bend = overlap ? 60 : Math.max(32, Math.abs(end.x - start.x) * 0.45);
  const c1 = { x: start.x + side * bend, y: start.y };
  const c2 = { x: end.x - side * bend, y: end.y };
  return {
    path: `M${start.x} ${start.y}C${c1.x} ${c1.y} ${c2.x} ${c2.y} ${end.x} ${end.y}`,
    along: (part) => alongCurve([start, c1, c2, end], part),
  };
}
