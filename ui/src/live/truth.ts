// What the truth badge says: how true the picture is, in one line and in reasons. Pure.
import { clock, timeMs } from "../format/time";
import type { Status } from "./session";

export type TruthLevel = "wait" | "ok" | "warn" | "bad";
export interface Truth {
  readonly level: TruthLevel;
  readonly text: string;
  readonly reasons: readonly string[];
  readonly lost: readonly { readonly table: string; readonly reason: string; readonly count: number }[];
}

/** The server sends progress once a second; after this it is said that none comes. */
export const SILENT_AFTER_MS = 3_500;
/** Event time may trail admission by a pane; more than this is worth a word. */
export const BEHIND_AFTER_MS = 5_000;

const plural = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? "" : "s"}`;

export function truthOf(status: Status, connected: boolean, nodes: number | null, nowMs: number): Truth {
  const { shown, phase } = status;
  if (phase === "failed") return { level: "bad", text: "failed", reasons: [status.error?.message ?? ""], lost: [] };
  if (shown === null) {
    const text = connected ? "filling the window" : "connecting";
    return { level: "wait", text, reasons: ["No complete answer has arrived yet."], lost: [] };
  }
  const lost = Object.entries(shown.lost).flatMap(([table, reasons]) =>
    Object.entries(reasons).map(([reason, count]) => ({ table, reason, count: Number(count) })).filter(({ count }) => count > 0),
  );
  const lostCount = lost.reduce((sum, { count }) => sum + count, 0);
  const completeMs = timeMs(shown.complete_to);
  const behindMs = timeMs(shown.frontier) - completeMs;
  const silentMs = nowMs - status.progressAtMs;
  const reasons: string[] = [];
  if (phase === "stale") reasons.push("The connection is gone; the picture is the last one that arrived.");
  if (phase === "ended") reasons.push(`The server ended this view: ${status.endReason || "no reason given"}.`);
  if (phase === "live" && silentMs > SILENT_AFTER_MS) reasons.push(`No news from the server for ${Math.floor(silentMs / 1000)} s.`);
  if (shown.lagging.length > 0) reasons.push(`Behind: ${shown.lagging.join(", ")}. What they deliver later is applied as a correction.`);
  if (!(completeMs > 0)) reasons.push("No node has said yet up to when its rows are in.");
  else if (behindMs > BEHIND_AFTER_MS) reasons.push(`Rows may still arrive for the last ${Math.round(behindMs / 1000)} s.`);
  if (!shown.complete && shown.lagging.length === 0) reasons.push(`Partial: history begins at ${clock(timeMs(shown.covers_from))}, later than the window does.`);
  if (lostCount > 0) reasons.push(`${plural(lostCount, "event")} of this window ${lostCount === 1 ? "was" : "were"} lost: counts are too low by as many.`);
  const level: TruthLevel = lostCount > 0 ? "bad" : reasons.length > 0 ? "warn" : "ok";
  const lead =
    !(completeMs > 0) ? "not complete yet"
    : phase === "stale" ? `as of ${clock(completeMs)}`
    : phase === "ended" ? `ended at ${clock(completeMs)}`
    : !shown.complete && shown.lagging.length === 0 ? `partial to ${clock(completeMs)}`
    : `complete to ${clock(completeMs)}`;
  const nodeText = nodes === null ? [] : [shown.lagging.length > 0 ? `${plural(nodes, "node")}, ${shown.lagging.length} behind` : plural(nodes, "node")];
  return { level, text: [lead, ...nodeText, `${lostCount.toLocaleString("en-US")} lost`].join(" · "), reasons, lost };
}
