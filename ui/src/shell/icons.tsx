// The page's icons, 16 px, drawn with the text's colour.
import type { ReactNode } from "react";

const PATHS = {
  live: "M1.5 8.5h3l2-5 3 9 2-4h3",
  alerts: "M8 2v1.5M3.5 11.5V7.5a4.5 4.5 0 0 1 9 0v4M2 11.5h12M6.5 13.5h3",
  sinks: "M2 3.5h12M4 3.5v5h8v-5M8 8.5v5M5.5 11.5L8 14l2.5-2.5",
  queries: "M2 4h12M2 8h8M2 12h10",
  nodes: "M3 2.5h10v4H3zM3 9.5h10v4H3zM5.5 4.5h.01M5.5 11.5h.01",
  scripts: "M4 1.5h5.5L13 5v9.5H4zM9 1.5V5.5h4M6.5 8.5h4M6.5 11h4",
  search: "M7 2.5a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9zM10.5 10.5l3.5 3.5",
  pause: "M5.5 3v10M10.5 3v10",
  play: "M4.5 3l8 5-8 5z",
  code: "M5 4.5L1.5 8 5 11.5M11 4.5L14.5 8 11 11.5",
  close: "M3.5 3.5l9 9M12.5 3.5l-9 9",
  more: "M3 8h.01M8 8h.01M13 8h.01",
  expand: "M9.5 2.5h4v4M6.5 13.5h-4v-4M13.5 2.5L9 7M2.5 13.5L7 9",
  copy: "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3",
  up: "M8 13V3M3.5 7.5L8 3l4.5 4.5",
  down: "M8 3v10M3.5 8.5L8 13l4.5-4.5",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  fit: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
  arrange: "M2 8h4M10 4h4M10 12h4M6 8l4-4M6 8l4 4",
  out: "M6.5 2.5h-4v11h4M10 5l3.5 3L10 11M13.5 8h-8",
  chevron: "M4 6l4 4 4-4",
} as const;
export type IconName = keyof typeof PATHS;

export function Icon({ name }: { readonly name: IconName }): ReactNode {
  const thick = name === "more" || name === "pause" ? 2 : 1.5;
  return (
    <svg width="16" height="16" viewBox="0 0 16 16" fill={name === "play" ? "currentColor" : "none"} stroke="currentColor"
      strokeWidth={thick} strokeLinecap="round" strokeLinejoin="round" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** Status by shape as well as colour: circle well, ring redirect or waiting, triangle warning, square bad. */
export function StatusMark({ status, size = 10 }: { readonly status: "ok" | "info" | "warn" | "bad" | "none" | "wait"; readonly size?: number }): ReactNode {
  const colour = { ok: "var(--ok)", info: "var(--ink-3)", warn: "var(--warn)", bad: "var(--bad)", none: "var(--ink-3)", wait: "var(--ink-3)" }[status];
  return (
    <svg width={size} height={size} viewBox="0 0 10 10" aria-hidden="true" style={{ flex: "none" }}>
      {status === "ok" && <circle cx="5" cy="5" r="3.6" fill={colour} />}
      {(status === "info" || status === "wait") && <circle cx="5" cy="5" r="3.2" fill="none" stroke={colour} strokeWidth="1.6" />}
      {status === "warn" && <path d="M5 .9 9.6 9H.4z" fill={colour} />}
      {status === "bad" && <rect x="1.2" y="1.2" width="7.6" height="7.6" rx="1" fill={colour} />}
      {status === "none" && <path d="M2 5h6" stroke={colour} strokeWidth="1.6" strokeLinecap="round" />}
    </svg>
  );
}

export function Logo(): ReactNode {
  return (
    <svg width="28" height="28" viewBox="0 0 32 32" role="img" aria-label="Weir">
      <rect width="32" height="32" rx="8" fill="var(--accent)" />
      <path d="M5 11h8c3 0 4 2 4 5v3c0 3 2 4 4 4h6" fill="none" stroke="var(--accent-ink)" strokeWidth="3" strokeLinecap="round" />
      <path d="M5 17h4c2 0 3 1 3 3v3c0 2 1 3 3 3" fill="none" stroke="var(--accent-ink)" strokeOpacity=".55" strokeWidth="2.4" strokeLinecap="round" />
    </svg>
  );
}
