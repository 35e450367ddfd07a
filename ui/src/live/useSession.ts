// Keeps one live subscription for a request. When the arguments of the same script change, the old
// picture stays (marked as going) until the new answer is whole: no blank page between two answers.
import { useEffect, useState, useSyncExternalStore } from "react";
import type { Request } from "../protocol";
import { useShell } from "../shell/context";
import { LiveSession, type Status } from "./session";

interface Held {
  readonly session: LiveSession;
  readonly family: string;
}

const SETTLED = new Set(["live", "failed", "ended"]);

/** `family` names what may replace each other without a blank page, e.g. the script. */
export function useSession(request: Request | null, family: string, attempt: number): { session: LiveSession | null; status: Status | null; going: boolean } {
  const { socket } = useShell();
  const [shown, setShown] = useState<Held | null>(null);
  const [next, setNext] = useState<Held | null>(null);
  const key = request === null ? "" : JSON.stringify(request);

  useEffect(() => {
    if (key === "") {
      setShown(null);
      setNext(null);
      return;
    }
    const session = new LiveSession(socket, JSON.parse(key) as Request);
    const held = { session, family };
    setNext(held);
    setShown((old) => {
      if (old !== null && old.family === family && old.session.status.shown !== null) return old;
      return held;
    });
    const settle = (): void => {
      if (SETTLED.has(session.status.phase)) setShown(held);
    };
    const off = session.subscribe(settle);
    return () => {
      off();
      session.close();
    };
      // Another attempt is a new subscription of the same request.
  }, [key, family, socket, attempt]);

  const session = shown?.session ?? null;
  const status = useSyncExternalStore(
    (listener) => session?.subscribe(listener) ?? (() => undefined),
    () => session?.getStatus() ?? null,
  );
  return { session, status, going: shown !== next };
}
