// The value axis of a chart: where it ends, what stands beside it. Pure.
import { joined, quantity } from "../format/numbers";

/** Labels no closer than this, where the chart is tall enough. */
const LABEL_SPACE_PX = 28;

/** What reads as one of the unit that people see: 1/s is stored as 1e-9 per ns. */
function one(semantic: string): number {
  switch (semantic) {
    case "THROUGHPUT_PER_NS":
    case "THROUGHPUT_BYTES_PER_NS":
      return 1e-9;
    case "PERCENT":
      return 0.01;
    case "DURATION_NS":
    case "DURATION_NS_QUANTILES":
      return 1e6;
    default:
      return 1;
  }
}

/** From zero to a little above the greatest value; where all are zero, one of the unit. */
export function valueRange(low: number | null, high: number | null, semantic: string): [number, number] {
  const least = Math.min(0, low ?? 0);
  const most = high ?? 0;
  if (most <= least) return [least, least + one(semantic)];
  return [least, most + (most - least) * 0.08];
}

/**
 * Steps between labels are 1, 2, 2.5 or 5 of a power of ten, at most twice the one before: half of the
 * axis always holds one of them, so that zero never stands alone.
 */
export const labelSpace = (axisPx: number): number => Math.max(1, Math.min(LABEL_SPACE_PX, axisPx * 0.45));

/** Zeros behind the point say nothing on an axis. */
export const axisText = (value: number, semantic: string): string =>
  value === 0 ? "0" : joined(quantity(value, semantic)).replace(/\.0+(?=\D|$)/, "").replace(/(\.\d*?)0+(?=\D|$)/, "$1");
