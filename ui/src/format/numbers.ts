// Numbers for people: three significant digits in the largest sensible unit, the unit apart so that
// it can be drawn quieter. Exact values stay available in tooltips and in the details panel.

export interface Quantity {
  readonly text: string;
  readonly unit: string;
}

export function toNumber(value: unknown): number {
  if (typeof value === "number") return value;
  if (typeof value === "bigint") return Number(value);
  if (typeof value === "boolean") return value ? 1 : 0;
  if (value === "NaN") return Number.NaN;
  if (value === "Infinity") return Number.POSITIVE_INFINITY;
  if (value === "-Infinity") return Number.NEGATIVE_INFINITY;
  return typeof value === "string" && value.trim() !== "" ? Number(value) : Number.NaN;
}

function special(value: number): string | null {
  if (Number.isNaN(value)) return "NaN";
  if (value === Number.POSITIVE_INFINITY) return "∞";
  if (value === Number.NEGATIVE_INFINITY) return "−∞";
  return null;
}

/** Three significant digits, never an exponent for what fits on a dashboard: 0.0123, 1.23, 12.3, 123, 1234. */
export function threeDigits(value: number): string {
  const odd = special(value);
  if (odd !== null) return odd;
  if (value === 0) return "0";
  const magnitude = Math.abs(value);
  if (magnitude >= 1e15 || magnitude < 1e-4) return value.toExponential(2).replace("-", "−");
  const digits = Math.max(0, 2 - Math.floor(Math.log10(magnitude)));
  const text = value.toFixed(Math.min(digits, 6));
  // 9.996 rounds to 10.00: one digit too many.
  const fixed = Math.abs(Number(text)) >= 10 ** (3 - digits) && digits > 0 ? value.toFixed(digits - 1) : text;
  return fixed.replace("-", "−");
}

const whole = (value: number): string => String(value).replace("-", "−");

function scaled(value: number, steps: readonly (readonly [factor: number, unit: string])[], counted: boolean): Quantity {
  const magnitude = Math.abs(value);
  let chosen = steps[0] ?? ([1, ""] as const);
  // A value that would round up to 1000 of a unit already belongs to the next one.
  for (const step of steps) if (magnitude >= step[0] * 0.9995) chosen = step;
  // Whole ones of the smallest unit are counted, not measured: 12 B, not 12.0 B.
  const text = counted && chosen[0] === 1 && Number.isInteger(value) ? whole(value) : threeDigits(value / chosen[0]);
  return { text, unit: chosen[1] };
}

const DURATION = [
  [1, "ns"], [1e3, "µs"], [1e6, "ms"], [1e9, "s"], [60e9, "min"], [3600e9, "h"], [86400e9, "d"],
] as const;
const BYTES = [
  [1, "B"], [1024, "KiB"], [1024 ** 2, "MiB"], [1024 ** 3, "GiB"], [1024 ** 4, "TiB"], [1024 ** 5, "PiB"],
] as const;
const RATE = [[1, "/s"], [1e3, "k/s"], [1e6, "M/s"], [1e9, "G/s"]] as const;
const COUNT = [[1, ""], [1e3, "k"], [1e6, "M"], [1e9, "G"], [1e12, "T"]] as const;

export const duration = (ns: number): Quantity => (ns === 0 ? { text: "0", unit: "ns" } : scaled(ns, DURATION, true));
export const bytes = (value: number): Quantity => scaled(value, BYTES, true);
export const percent = (share: number): Quantity => ({ text: threeDigits(share * 100), unit: "%" });
export const rate = (perNs: number): Quantity => scaled(perNs * 1e9, RATE, false);
export const compact = (value: number): Quantity => scaled(value, COUNT, true);
export function byteRate(perNs: number): Quantity {
  const { text, unit } = scaled(perNs * 1e9, BYTES, false);
  return { text, unit: `${unit}/s` };
}

const GROUPED = new Intl.NumberFormat("en-US");
export const grouped = (value: number | bigint): string =>
  typeof value === "bigint" || Number.isFinite(value) ? GROUPED.format(value).replace("-", "−") : (special(value) ?? "");

/** A number to scale an axis by: what the semantic type stores → what people read. */
export function quantity(value: number, semantic: string): Quantity {
  const odd = special(value);
  if (odd !== null) return { text: odd, unit: "" };
  switch (semantic) {
    case "DURATION_NS":
    case "DURATION_NS_QUANTILES":
      return duration(value);
    case "BYTES":
      return bytes(value);
    case "PERCENT":
      return percent(value);
    case "THROUGHPUT_PER_NS":
      return rate(value);
    case "THROUGHPUT_BYTES_PER_NS":
      return byteRate(value);
    default:
      return Math.abs(value) >= 1e4 ? compact(value) : { text: Number.isInteger(value) ? whole(value) : threeDigits(value), unit: "" };
  }
}

export const joined = ({ text, unit }: Quantity): string => {
  if (unit === "" || unit.startsWith("/")) return `${text}${unit}`;
  return `${text} ${unit}`;
};
