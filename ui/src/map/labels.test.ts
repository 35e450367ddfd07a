import { describe, expect, it } from "vitest";
import { alongPoints, labelBox, overlaps, placeLabels, type Label } from "./labels";
import type { Point } from "./layout";

const straight = (from: Point, to: Point) => (part: number): Point => alongPoints([from, to], part);
const label = (key: string, from: Point, to: Point, more: Partial<Label> = {}): Label => ({
  key, lines: ["12.3 ms"], textPx: 44, along: straight(from, to), mustShow: false, ...more,
});

describe("labels of edges", () => {
  // Catches: numbers of edges that cross written over each other.
  it("keep off each other and off the nodes", () => {
    const labels = [
      label("a", { x: 0, y: 0 }, { x: 400, y: 200 }),
      label("b", { x: 0, y: 200 }, { x: 400, y: 0 }),
      label("c", { x: 0, y: 100 }, { x: 400, y: 100 }),
    ];
    const nodes = [{ x: 150, y: 90, width: 20, height: 20 }];
    const places = placeLabels(labels, nodes);
    expect([...places.keys()].sort()).toEqual(["a", "b", "c"]);
    const boxes = labels.map((each) => labelBox(each, places.get(each.key) ?? { x: 0, y: 0 }));
    boxes.forEach((box, i) => [...boxes.slice(i + 1), ...nodes].forEach((other) => expect(overlaps(box, other)).toBe(false)));
  });

  // Catches: labels that change places from second to second.
  it("stay where they are while numbers change and rows come in another order", () => {
    const ends: [Point, Point] = [{ x: 0, y: 0 }, { x: 400, y: 0 }];
    const labels = [label("a", ...ends), label("b", ...ends)];
    const before = placeLabels(labels, []);
    const longer = [...labels].reverse().map((each) => ({ ...each, lines: ["112.3 ms"], textPx: 50 }));
    expect(placeLabels(longer, [])).toEqual(before);
  });

  it("are left out where there is no room, unless something is wrong", () => {
    const [from, to] = [{ x: 0, y: 0 }, { x: 10, y: 0 }];
    const quiet = placeLabels([label("a", from, to), label("b", from, to)], []);
    expect([...quiet.keys()]).toEqual(["a"]);
    const alarm = placeLabels([label("a", from, to), label("b", from, to, { mustShow: true })], []);
    expect([...alarm.keys()]).toEqual(["b"]);
    expect(placeLabels([label("b", from, to, { mustShow: true })], [{ x: -500, y: -500, width: 1000, height: 1000 }]).size).toBe(1);
  });

  it("go by the length of a way, not by its corners", () => {
    expect(alongPoints([{ x: 0, y: 0 }, { x: 10, y: 0 }, { x: 100, y: 0 }], 0.5)).toEqual({ x: 50, y: 0 });
    expect(alongPoints([], 0.5)).toEqual({ x: 0, y: 0 });
    expect(alongPoints([{ x: 3, y: 4 }], 0.5)).toEqual({ x: 3, y: 4 });
  });
});
