import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { ServerMessage } from "../protocol";
import { LiveSocket } from "./socket";

/** A websocket that the test holds the other end of. */
class FakeSocket {
  static readonly OPEN = 1;
  static all: FakeSocket[] = [];
  readyState = 0;
  sent: { type: string; id: string }[] = [];
  onopen: (() => void) | null = null;
  onclose: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  constructor() { FakeSocket.all.push(this); }
  send(text: string): void { this.sent.push(JSON.parse(text) as { type: string; id: string }); }
  close(): void { this.onclose?.(); }
  accept(): void { this.readyState = 1; this.onopen?.(); }
  say(message: object): void { this.onmessage?.({ data: JSON.stringify(message) }); }
}

function listen(): { handler: { message: (m: ServerMessage) => void; sent: () => void; lost: () => void }; log: string[] } {
  const log: string[] = [];
  return { log, handler: { message: (m) => log.push(`${m.type} ${m.id}`), sent: () => log.push("sent"), lost: () => log.push("lost") } };
}
const last = (): FakeSocket => FakeSocket.all[FakeSocket.all.length - 1] as FakeSocket;

beforeEach(() => {
  FakeSocket.all = [];
  vi.useFakeTimers();
  vi.stubGlobal("WebSocket", FakeSocket);
  vi.stubGlobal("window", { addEventListener: () => undefined });
  vi.stubGlobal("document", { addEventListener: () => undefined, baseURI: "http://127.0.0.1:7070/#/", visibilityState: "visible" });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("LiveSocket", () => {
  // Catches: messages of a former life of the subscription applied to the new snapshot.
  it("subscribes again under a fresh id and ignores the old one", () => {
    const socket = new LiveSocket();
    const { handler, log } = listen();
    socket.open({ script: "px/a" }, handler);
    last().accept();
    last().say({ type: "end", id: "q1", reason: "" });
    last().close();
    vi.advanceTimersByTime(1_000);
    last().accept();
    expect(last().sent).toMatchObject([{ type: "subscribe", id: "q2", script: "px/a" }]);
    last().say({ type: "end", id: "q1", reason: "" });
    last().say({ type: "end", id: "q2", reason: "" });
    expect(log).toEqual(["sent", "end q1", "lost", "sent", "end q2"]);
  });

  // Catches: a page that hammers a server which is down, or gives up.
  it("backs off up to its maximum and never stops", () => {
    const socket = new LiveSocket();
    let refused = 0;
    socket.onRefused = () => { refused += 1; };
    socket.open({ script: "px/a" }, listen().handler);
    for (let n = 0; n < 12; n += 1) {
      last().close();
      vi.advanceTimersByTime(10_000);
    }
    expect(FakeSocket.all).toHaveLength(13);
    expect(refused).toBe(12);
    last().close();
    vi.advanceTimersByTime(5_000);
    expect(FakeSocket.all).toHaveLength(13);
  });

  // Catches: a connection kept open by nobody after the reader has left or logged out.
  it("does not reconnect for nobody", () => {
    const socket = new LiveSocket();
    const { close } = socket.open({ script: "px/a" }, listen().handler);
    last().accept();
    close();
    expect(last().sent[1]).toEqual({ type: "unsubscribe", id: "q1" });
    last().close();
    vi.advanceTimersByTime(60_000);
    expect(FakeSocket.all).toHaveLength(1);
    socket.open({ script: "px/b" }, listen().handler);
    expect(FakeSocket.all).toHaveLength(2);
  });

  it("drops a silent line and takes unknown messages for what they are", () => {
    const socket = new LiveSocket();
    const { handler, log } = listen();
    socket.open({ script: "px/a" }, handler);
    last().accept();
    last().say({ type: "novelty", id: "q1" });
    expect(log).toEqual(["sent"]);
    vi.advanceTimersByTime(40_000);
    expect(log).toContain("lost");
  });
});
