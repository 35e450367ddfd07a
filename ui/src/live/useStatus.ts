// What something of the server is, told whenever it changes: alerts, sinks.
import { useEffect, useState } from "react";
import type { AlertsStatus, SinksStatus } from "../messages";
import { useShell } from "../shell/context";

interface Statuses {
  alerts: AlertsStatus;
  sinks: SinksStatus;
}

export interface Told<T> {
  readonly value: T | null;
  /** The last word is of an earlier connection; or why there is none. */
  readonly error: Error | null;
}

export function useStatus<K extends keyof Statuses>(of: K): Told<Statuses[K]> {
  const { socket } = useShell();
  const [told, setTold] = useState<Told<Statuses[K]>>({ value: null, error: null });
  useEffect(() => {
    const subscription = socket.open({ status: of }, {
      sent: () => undefined,
      lost: () => setTold((old) => ({ ...old, error: new Error("the connection was lost") })),
      message: (message) => {
        if (message.type === "status") setTold({ value: message.value as Statuses[K], error: null });
        if (message.type === "error") setTold((old) => ({ ...old, error: new Error(message.message) }));
      },
    });
    return () => subscription.close();
  }, [socket, of]);
  return told;
}
