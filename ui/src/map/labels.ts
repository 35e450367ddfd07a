// Where the edges' labels stand: on their own way, off the nodes and off each other. Edges come in the order of their
// names and boxes grow in steps, so that numbers that change move no label.
import type { Box, Point } from "./layout";

/** A text's box grows by so much at once. */
const STEP_PX = 16;
const PADDING_PX = 5;
const LINE_PX = 14;
/** Between a label and what is beside it. */
const GAP_PX = 2;
/** Parts of the way, in the order in which they are tried: the middle, then ever farther from it. */
const PARTS = [0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8];

export interface Label {
  readonly key: string;
  readonly lines: readonly string[];
  /** The widest line, in px. */
  readonly textPx: number;
  /** A point of the way, from its beginning (0) to its end (1). */
  readonly along: (part: number) => Point;
  /** Is shown also where there is no room. */
  readonly mustShow: boolean;
}

export const labelBox = (label: Label, at: Point): Box => {
  const width = Math.ceil((label.textPx + 2 * PADDING_PX) / STEP_PX) * STEP_PX;
  const height = label.lines.length * LINE_PX + 2;
  return { x: at.x - width / 2, y: at.y - height / 2, width, height };
};

export const overlaps = (a: Box, b: Box): boolean =>
  a.x < b.x + b.width + GAP_PX && b.x < a.x + a.width + GAP_PX && a.y < b.y + b.height + GAP_PX && b.y < a.y + a.height + GAP_PX;

/** The middle of each label by its key; one for which there is no room has none. Those that must be seen come first. */
export function placeLabels(labels: readonly Label[], nodes: readonly Box[]): Map<string, Point> {
  const placed = new Map<string, Point>();
  const taken: Box[] = [...nodes];
  const byKey = (a: Label, b: Label): number => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0);
  const sorted = [...labels].filter((label) => label.lines.length > 0).sort((a, b) => Number(b.mustShow) - Number(a.mustShow) || byKey(a, b));
  for (const label of sorted) {
    const free = PARTS.map(label.along).find((at) => !taken.some((box) => overlaps(box, labelBox(label, at))));
    const at = free ?? (label.mustShow ? label.along(0.5) : undefined);
    if (at === undefined) continue;
    placed.set(label.key, at);
    taken.push(labelBox(label, at));
  }
  return placed;
}

/** A point of a line through points, by its share of the length. */
export function alongPoints(points: readonly Point[], part: number): Point {
  const [first] = points;
  if (first === undefined) return { x: 0, y: 0 };
  const lengths = points.slice(1).map((to, i) => Math.hypot(to.x - (points[i] ?? to).x, to.y - (points[i] ?? to).y));
  let left = lengths.reduce((sum, length) => sum + length, 0) * part;
  for (const [i, length] of lengths.entries()) {
    const [from, to] = [points[i] ?? first, points[i + 1] ?? first];
    if (left <= length && length > 0) return { x: from.x + ((to.x - from.x) * left) / length, y: from.y + ((to.y - from.y) * left) / length };
    left -= length;
  }
  return points[points.length - 1] ?? first;
}

/** A point of a cubic curve. */
export function alongCurve([a, b, c, d]: readonly [Point, Point, Point, Point], t: number): Point {
  const u = 1 - t;
  const mix = (of: (point: Point) => number): number => u ** 3 * of(a) + 3 * u * u * t * of(b) + 3 * u * t * t * of(c) + t ** 3 * of(d);
  return { x: mix((point) => point.x), y: mix((point) => point.y) };
}
