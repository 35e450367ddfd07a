import { describe, expect, it } from "vitest";
import type { Completeness } from "../protocol";
import type { Status } from "./session";
import { truthOf } from "./truth";

const at = (seconds: string): string => `2026-01-01T12:00:${seconds}.000000000Z`;
const shown: Completeness = {
  frontier: at("03"), complete_to: at("03"), covers_from: at("00"), complete: true, lagging: [], lost: {},
};
const status = (change: Partial<Status>, completeness: Partial<Completeness> = {}): Status => ({
  phase: "live", shown: { ...shown, ...completeness }, progressAtMs: 1_000, tables: [], tableErrors: new Map(), error: null,
  endReason: "", paused: false, waitingRows: 0, ...change,
});

describe("truth badge", () => {
  it("says how far the answer is complete", () => {
    const truth = truthOf(status({}), true, 1, 1_100);
    expect(truth.level).toBe("ok");
    expect(truth.text).toMatch(/^complete to \d\d:\d\d:03 · 1 node · 0 lost$/);
    expect(truth.reasons).toEqual([]);
  });

  // Catches: a green badge over an answer that is not the whole truth.
  it.each<[string, Status, number, "warn" | "bad" | "wait", RegExp]>([
    ["lagging", status({}, { lagging: ["node-3"], complete: false }), 3, "warn", /3 nodes, 1 behind/],
    ["partial", status({}, { complete: false }), 1, "warn", /^partial to/],
    ["lost", status({}, { lost: { http_events: { ring_full: 12, none: 0 } } }), 1, "bad", /12 lost$/],
    ["behind", status({}, { complete_to: at("00"), frontier: at("09") }), 1, "warn", /complete to/],
    ["nothing known", status({}, { complete_to: "1970-01-01T00:00:00.000000000Z" }), 1, "warn", /^not complete yet/],
    ["stale", status({ phase: "stale" }), 1, "warn", /^as of/],
    ["ended", status({ phase: "ended", endReason: "shutdown" }), 1, "warn", /^ended at/],
    ["no answer yet", status({ phase: "snapshot", shown: null }), 1, "wait", /filling/],
  ])("is not green when %s", (_, given, nodes, level, text) => {
    const truth = truthOf(given, true, nodes, 1_100);
    expect(truth.level).toBe(level);
    expect(truth.text).toMatch(text);
    expect(truth.reasons.length).toBeGreaterThan(0);
  });

  it("notices silence", () => {
    expect(truthOf(status({}), true, 1, 10_000).level).toBe("warn");
  });
});
