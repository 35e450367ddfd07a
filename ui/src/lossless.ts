// JSON without loss: INT64 has more digits than a JavaScript number can hold.
// Integers beyond 2^53 become BigInt, everything else is what JSON.parse gives.
import { parse, stringify } from "lossless-json";

// A run of 16 digits that is not a fraction: only such a text can hold an integer beyond 2^53
// (9,007,199,254,740,992 has 16 digits). All others take the native parser, which is some 20 times faster.
// A false hit (digits in a string) costs time, never correctness.
const MAY_HOLD_BIG = /(?<![\d.])\d{16}/;

function parseNumber(text: string): number | bigint {
  const value = Number(text);
  if (Number.isSafeInteger(value) || /[.eE]/.test(text)) return value;
  return BigInt(text);
}

export function parseLossless(text: string): unknown {
  return MAY_HOLD_BIG.test(text) ? parse(text, null, parseNumber) : JSON.parse(text);
}

/** JSON text with all digits of a BigInt. */
export function stringifyLossless(value: unknown, indent?: number): string {
  return stringify(value, null, indent) ?? "null";
}
