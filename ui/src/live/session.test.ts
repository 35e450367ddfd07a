import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { ServerMessage } from "../protocol";
import { LiveSession } from "./session";
import type { Handler, LiveSocket } from "./socket";

let handler: Handler;
let again = 0;
const socket = {
  open: (_: unknown, given: Handler) => {
    handler = given;
    return { close: () => undefined, again: () => { again += 1; handler.sent(); } };
  },
} as unknown as LiveSocket;

const say = (message: object): void => handler.message(message as ServerMessage);
const schema = (table: string): void => say({ type: "schema", id: "q1", table, columns: [{ name: "n", type: "INT64", semantic: "NONE", desc: "" }], key: [], window: null, widgets: [] });
const change = (table: string, n: number, diff = 1): void => say({ type: "changes", id: "q1", table, tick: "", rows: [[diff, { n }]], snapshot: false });
const progress = (frontier = "2026-01-01T00:00:01.000000000Z"): void =>
  say({ type: "progress", id: "q1", frontier, complete_to: frontier, covers_from: frontier, complete: true, lagging: [], lost: {} });
const frame = (): void => { vi.advanceTimersByTime(20); };

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("requestAnimationFrame", (draw: () => void) => setTimeout(draw, 16));
  again = 0;
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function live(): LiveSession {
  const session = new LiveSession(socket, { script: "px/a" });
  handler.sent();
  schema("T");
  change("T", 1);
  progress();
  frame();
  return session;
}

describe("LiveSession", () => {
  it("draws once a frame, however many messages come", () => {
    const session = live();
    let drawn = 0;
    session.tables.get("T")?.subscribe(() => { drawn += 1; });
    for (let n = 2; n < 50; n += 1) {
      change("T", n);
      progress();
    }
    frame();
    expect(drawn).toBe(1);
    expect(session.tables.get("T")?.total).toBe(49);
  });

  // Catches: a pause that loses rows, or that lets the badge speak of rows not drawn.
  it("holds picture and truth while paused, and counts what waits", () => {
    const session = live();
    session.setPaused(true);
    change("T", 2);
    progress("2026-01-01T00:00:09.000000000Z");
    frame();
    expect(session.tables.get("T")?.total).toBe(1);
    expect(session.status).toMatchObject({ waitingRows: 1, shown: { frontier: "2026-01-01T00:00:01.000000000Z" } });
    session.setPaused(false);
    frame();
    expect(session.tables.get("T")?.total).toBe(2);
    expect(session.status).toMatchObject({ waitingRows: 0, shown: { frontier: "2026-01-01T00:00:09.000000000Z" } });
  });

  // Catches: a blank page, or a picture still called live, between two connections.
  it("keeps the last picture as stale until the next snapshot is whole", () => {
    const session = live();
    handler.lost();
    expect(session.status.phase).toBe("stale");
    handler.sent();
    schema("T");
    change("T", 7);
    frame();
    expect([session.status.phase, session.tables.get("T")?.rows()[0]?.row["n"]]).toEqual(["stale", 1]);
    progress();
    frame();
    expect([session.status.phase, session.tables.get("T")?.rows()[0]?.row["n"]]).toEqual(["live", 7]);
  });

  it("subscribes anew when the server lost the view, and does not take it for a failed script", () => {
    const session = live();
    say({ type: "error", id: "q1", code: "view_lost", message: "too slow" });
    say({ type: "end", id: "q1", reason: "view_lost" });
    expect(session.status.phase).toBe("stale");
    vi.advanceTimersByTime(600);
    expect(again).toBe(1);
    schema("T");
    progress();
    frame();
    expect(session.status.phase).toBe("live");
  });

  // Catches: a tab that stays failed for good after a restart of the server, or after its laptop slept.
  it.each(["reader_too_slow", "overflow", "unavailable"])("asks again after %s", (code) => {
    const session = live();
    say({ type: "error", id: "q1", code, message: "for now" });
    expect(session.status.phase).toBe("stale");
    vi.advanceTimersByTime(600);
    expect(again).toBe(1);
  });

  it("keeps an output's error to its table", () => {
    const session = live();
    say({ type: "error", id: "q1", table: "K", code: "no_source", message: "nothing produces it" });
    expect(session.status.phase).toBe("live");
    expect(session.status.tableErrors.get("K")?.code).toBe("no_source");
    say({ type: "error", id: "q1", code: "compile_error", message: "no" });
    expect(session.status.phase).toBe("failed");
  });
});
