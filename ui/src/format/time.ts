// Times: RFC 3339 with nine digits in, local wall-clock time out.

/** Milliseconds since the epoch; NaN for what is no time. */
export function timeMs(text: unknown): number {
  if (typeof text !== "string") return Number.NaN;
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)$/.exec(text);
  if (match === null) return Number.NaN;
  const [, seconds = "", fraction = "", zone = "Z"] = match;
  return Date.parse(`${seconds}${zone}`) + Number(`0.${fraction || "0"}`) * 1000;
}

const pad = (value: number, digits = 2): string => String(Math.floor(value)).padStart(digits, "0");

export function clock(ms: number, withMs = false): string {
  if (!Number.isFinite(ms)) return "–";
  const at = new Date(ms);
  const text = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  return withMs ? `${text}.${pad(at.getMilliseconds(), 3)}` : text;
}

export function dateClock(ms: number): string {
  if (!Number.isFinite(ms)) return "–";
  const at = new Date(ms);
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${clock(ms, true)}`;
}

const UNIT_MS: Record<string, number> = { ms: 1, s: 1e3, m: 60e3, h: 3600e3, d: 86400e3 };

/** The length of a relative start time such as `-5m`; NaN for anything else. */
export function windowMs(from: string | undefined): number {
  const match = /^-(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(from ?? "");
  return match === null ? Number.NaN : Number(match[1]) * (UNIT_MS[match[2] ?? ""] ?? Number.NaN);
}
