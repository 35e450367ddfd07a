// One subscription of the page: its tables, how true they are, and when they are drawn.
// Messages are applied as they come; the picture changes at most once an animation frame, and not
// at all while paused.
import type { Completeness, ErrorMessage, Request, ServerMessage } from "../protocol";
import type { LiveSocket, OpenSubscription } from "./socket";
import { TableStore } from "./table-store";

/** What the server says when a view went down, this reader was too slow for it, or the server itself comes
 * or goes: none of it is an error of the script, and asking again gives a fresh snapshot. */
const TRANSIENT = new Set(["view_lost", "reader_too_slow", "overflow", "unavailable"]);
const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 10_000;

export type Phase = "connecting" | "snapshot" | "live" | "stale" | "failed" | "ended";

export interface Status {
  readonly phase: Phase;
  /** How true the picture is (not what has arrived since, which a pause may hold back). */
  readonly shown: Completeness | null;
  /** When the newest progress message arrived, performance clock. */
  readonly progressAtMs: number;
  readonly tables: readonly string[];
  readonly tableErrors: ReadonlyMap<string, ErrorMessage>;
  readonly error: ErrorMessage | null;
  readonly endReason: string;
  readonly paused: boolean;
  readonly waitingRows: number;
}

const START: Status = {
  phase: "connecting", shown: null, progressAtMs: 0, tables: [], tableErrors: new Map(), error: null, endReason: "",
  paused: false, waitingRows: 0,
};

export class LiveSession {
  readonly tables = new Map<string, TableStore>();
  status: Status = START;
  private latest: Completeness | null = null;
  private framePending = false;
  private freshSchemas = new Set<string>();
  private readonly listeners = new Set<() => void>();
  private readonly subscription: OpenSubscription;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private retries = 0;

  constructor(socket: LiveSocket, readonly request: Request) {
    this.subscription = socket.open(request, {
      sent: () => this.sent(),
      lost: () => this.lost(),
      message: (message) => this.receive(message),
    });
  }

  close(): void {
    clearTimeout(this.retry);
    this.subscription.close();
    this.listeners.clear();
  }

  setPaused(paused: boolean): void {
    this.update({ paused });
    this.schedule();
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };
  readonly getStatus = (): Status => this.status;

  private sent(): void {
    clearTimeout(this.retry);
    this.retry = undefined;
    this.freshSchemas = new Set();
    const phase = this.status.shown === null ? "snapshot" : "stale";
    this.update({ phase, error: null, tableErrors: new Map(), endReason: "" });
  }

  private lost(): void {
    if (this.status.phase === "failed" || this.status.phase === "ended") return;
    this.update({ phase: this.status.shown === null ? "connecting" : "stale" });
  }

  private receive(message: ServerMessage): void {
    switch (message.type) {
      case "schema": {
        const store = this.tables.get(message.table);
        if (store === undefined) this.tables.set(message.table, new TableStore(message));
        else store.begin(message);
        this.freshSchemas.add(message.table);
        if (this.status.tables.join("\n") !== [...this.tables.keys()].join("\n")) {
          this.update({ tables: [...this.tables.keys()] });
        }
        return;
      }
      case "changes":
        this.tables.get(message.table)?.apply(message.rows);
        return;
      case "progress":
        this.progress(message);
        return;
      case "error":
        this.fail(message);
        return;
      case "end":
        if (this.status.phase !== "failed" && this.retry === undefined) this.update({ phase: "ended", endReason: message.reason });
        return;
    }
  }

  private progress(message: Completeness): void {
    this.latest = message;
    this.retries = 0;
    this.dropForgottenTables();
    for (const store of this.tables.values()) store.seal();
    this.status = { ...this.status, progressAtMs: performance.now() };
    this.schedule();
  }

  /** A table that this life of the subscription has not announced is no longer an output. */
  private dropForgottenTables(): void {
    const gone = [...this.tables.keys()].filter((name) => !this.freshSchemas.has(name));
    for (const name of gone) this.tables.delete(name);
    if (gone.length > 0) this.update({ tables: [...this.tables.keys()] });
  }

  private fail(message: ErrorMessage): void {
    if (TRANSIENT.has(message.code) && message.table === undefined) {
      // Not an error of the script: the picture stays, marked stale, and a fresh snapshot replaces it.
      this.update({ phase: this.status.shown === null ? "snapshot" : "stale" });
      clearTimeout(this.retry);
      this.retry = setTimeout(() => this.subscription.again(), Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** this.retries));
      this.retries += 1;
      return;
    }
    if (message.table === undefined) {
      this.update({ phase: "failed", error: message });
      return;
    }
    const tableErrors = new Map(this.status.tableErrors);
    tableErrors.set(message.table, message);
    this.update({ tableErrors });
  }

  private schedule(): void {
    if (this.framePending) return;
    this.framePending = true;
    requestAnimationFrame(() => this.frame());
  }

  private frame(): void {
    this.framePending = false;
    let waitingRows = 0;
    if (this.status.paused && this.status.shown !== null) {
      for (const store of this.tables.values()) waitingRows += store.waiting;
      this.update({ waitingRows });
      return;
    }
    const nowMs = performance.now();
    const drawn = [...this.tables.values()].filter((store) => store.publish(nowMs));
    if (this.latest !== null) {
      const over = this.status.phase === "failed" || this.status.phase === "ended";
      this.update({ phase: over ? this.status.phase : "live", shown: this.latest, waitingRows: 0 });
      this.latest = null;
    } else if (this.status.waitingRows !== 0) {
      this.update({ waitingRows: 0 });
    }
    for (const store of drawn) store.notify();
  }

  private update(change: Partial<Status>): void {
    this.status = { ...this.status, ...change };
    for (const listener of this.listeners) listener();
  }
}
