// Small hooks that several parts share.
import { useEffect, useLayoutEffect, useRef, useState, useSyncExternalStore, type RefObject } from "react";
import type { TableStore } from "./live/table-store";

export function useSize(ref: RefObject<Element | null>): { width: number; height: number } {
  const [size, setSize] = useState({ width: 0, height: 0 });
  useLayoutEffect(() => {
    const element = ref.current;
    if (element === null) return;
    const observer = new ResizeObserver(([entry]) => {
      if (entry === undefined) return;
      const { width, height } = entry.contentRect;
      setSize((old) => (old.width === width && old.height === height ? old : { width, height }));
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [ref]);
  return size;
}

function useMedia(query: string): boolean {
  return useSyncExternalStore(
    (listener) => {
      const media = matchMedia(query);
      media.addEventListener("change", listener);
      return () => media.removeEventListener("change", listener);
    },
    () => matchMedia(query).matches,
  );
}
export const useDark = (): boolean => useMedia("(prefers-color-scheme: dark)");
export const useReducedMotion = (): boolean => useMedia("(prefers-reduced-motion: reduce)");

/** Draws again whenever the table's picture changes. */
export const useTableVersion = (store: TableStore): number => useSyncExternalStore(store.subscribe, store.getVersion);

/** The performance clock, once every `everyMs`. */
export function useNow(everyMs: number): number {
  const [now, setNow] = useState(() => performance.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(performance.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}

/** Calls `load` now and every `everyMs`; keeps the last answer over a failure. */
export function usePolled<T>(load: () => Promise<T>, everyMs: number): { value: T | null; error: Error | null } {
  const [state, setState] = useState<{ value: T | null; error: Error | null }>({ value: null, error: null });
  const latest = useRef(load);
  latest.current = load;
  useEffect(() => {
    let over = false;
    const run = (): void => {
      latest.current().then(
        (value) => { if (!over) setState({ value, error: null }); },
        (error: unknown) => { if (!over) setState((old) => ({ ...old, error: error as Error })); },
      );
    };
    run();
    const timer = setInterval(() => { if (document.visibilityState === "visible") run(); }, everyMs);
    return () => {
      over = true;
      clearInterval(timer);
    };
  }, [everyMs]);
  return state;
}
