// The page's one websocket and its subscriptions. Reconnects with back-off and subscribes again under
// fresh ids, so that a message of an earlier life can never reach a later one. What to do with the
// messages is the subscriber's business.
import { apiUrl } from "../api";
import { readMessage, type Request, type ServerMessage } from "../protocol";

const BACKOFF_FIRST_MS = 250;
const BACKOFF_MAX_MS = 8_000;
/** The server promises a progress message a second; this long without any message is a dead line. */
const SILENCE_MAX_MS = 30_000;

export interface Handler {
  message(message: ServerMessage): void;
  /** The request has been sent (again): a fresh snapshot is on its way. */
  sent(): void;
  lost(): void;
}

export interface OpenSubscription {
  close(): void;
  /** Subscribes anew; a connection that is being made does so anyway. */
  again(): void;
}

export type SocketState =
  | { readonly kind: "connecting"; readonly attempt: number }
  | { readonly kind: "open" }
  | { readonly kind: "waiting"; readonly attempt: number; readonly retryAtMs: number };

interface Subscription {
  id: string;
  readonly request: Request;
  readonly handler: Handler;
}

export class LiveSocket {
  state: SocketState = { kind: "connecting", attempt: 0 };
  /** Called when a connection was refused before it opened: the cookie may have expired. */
  onRefused: (() => void) | null = null;

  private socket: WebSocket | null = null;
  private attempt = 0;
  private nextId = 1;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private watchdog: ReturnType<typeof setInterval> | undefined;
  private lastMessageMs = 0;
  private readonly subscriptions = new Set<Subscription>();
  private readonly byId = new Map<string, Subscription>();
  private readonly listeners = new Set<() => void>();

  constructor() {
    window.addEventListener("online", () => this.retryNow());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.retryNow();
    });
  }

  open(request: Request, handler: Handler): OpenSubscription {
    const subscription: Subscription = { id: "", request, handler };
    this.subscriptions.add(subscription);
    if (this.state.kind === "open") this.send(subscription);
    else if (this.socket === null && this.state.kind !== "waiting") this.connect();
    return {
      close: () => {
        this.subscriptions.delete(subscription);
        this.byId.delete(subscription.id);
        if (this.socket?.readyState === WebSocket.OPEN && subscription.id !== "") {
          this.socket.send(JSON.stringify({ type: "unsubscribe", id: subscription.id }));
        }
      },
      again: () => {
        if (this.subscriptions.has(subscription) && this.state.kind === "open") this.send(subscription);
      },
    };
  }

  retryNow(): void {
    if (this.state.kind !== "waiting") return;
    clearTimeout(this.timer);
    this.connect();
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };
  readonly getState = (): SocketState => this.state;

  private connect(): void {
    this.socket = null;
    if (this.subscriptions.size === 0) {
      // Nobody listens (another view, or logged out): the next subscriber connects.
      this.attempt = 0;
      this.setState({ kind: "connecting", attempt: 0 });
      return;
    }
    this.setState({ kind: "connecting", attempt: this.attempt });
    const url = apiUrl("live");
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    this.socket = socket;
    let opened = false;
    socket.onopen = () => {
      opened = true;
      this.attempt = 0;
      this.lastMessageMs = performance.now();
      this.watchdog = setInterval(() => this.closeIfSilent(), 5_000);
      this.setState({ kind: "open" });
      for (const subscription of this.subscriptions) this.send(subscription);
    };
    socket.onmessage = (event) => this.receive(event.data);
    socket.onclose = () => this.closed(opened);
  }

  private closeIfSilent(): void {
    const silentMs = performance.now() - this.lastMessageMs;
    if (this.subscriptions.size > 0 && silentMs > SILENCE_MAX_MS) this.socket?.close();
  }

  private send(subscription: Subscription): void {
    this.byId.delete(subscription.id);
    subscription.id = `q${this.nextId}`;
    this.nextId += 1;
    this.byId.set(subscription.id, subscription);
    subscription.handler.sent();
    this.lastMessageMs = performance.now();
    this.socket?.send(JSON.stringify({ type: "subscribe", id: subscription.id, ...subscription.request }));
  }

  private receive(data: unknown): void {
    this.lastMessageMs = performance.now();
    if (typeof data !== "string") return;
    let message: ServerMessage | null;
    try {
      message = readMessage(data);
    } catch {
      // Not JSON: the connection is not ours to trust any more; a new one starts from a snapshot.
      this.socket?.close();
      return;
    }
    if (message !== null) this.byId.get(message.id)?.handler.message(message);
  }

  private closed(opened: boolean): void {
    clearInterval(this.watchdog);
    this.socket = null;
    this.byId.clear();
    for (const subscription of this.subscriptions) subscription.handler.lost();
    if (!opened) this.onRefused?.();
    const delayMs = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** this.attempt) * (0.8 + 0.4 * Math.random());
    this.attempt += 1;
    this.setState({ kind: "waiting", attempt: this.attempt, retryAtMs: performance.now() + delayMs });
    this.timer = setTimeout(() => this.connect(), delayMs);
  }

  private setState(state: SocketState): void {
    this.state = state;
    for (const listener of this.listeners) listener();
  }
}
