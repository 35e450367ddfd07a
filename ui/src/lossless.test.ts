import { describe, expect, it } from "vitest";
import { parseLossless, stringifyLossless } from "./lossless";

describe("lossless JSON", () => {
  // Catches: any rounding of INT64 on its way through the page.
  it("keeps every digit of an INT64", () => {
    const text = '{"a":9223372036854775807,"b":-9223372036854775808,"c":9007199254740993,"d":9007199254740991}';
    const row = parseLossless(text) as Record<string, unknown>;
    expect(row).toEqual({ a: 9223372036854775807n, b: -9223372036854775808n, c: 9007199254740993n, d: 9007199254740991 });
    expect(stringifyLossless(row)).toBe(text);
  });

  // Catches: a float with many digits, or digits in a string, taken for a big integer.
  it("leaves floats and strings alone", () => {
    expect(parseLossless('[0.30000000000000004, 1e21, 12345678901234567.5, -1.5, "9223372036854775807"]')).toEqual([
      0.30000000000000004, 1e21, 12345678901234567.5, -1.5, "9223372036854775807",
    ]);
  });

  it("agrees with JSON.parse on ordinary messages", () => {
    const text = '{"type":"changes","rows":[[1,{"t":"2026-01-01T00:00:01.000000000Z","n":12,"ok":true,"s":"a\\u0000\\"b"}]]}';
    expect(parseLossless(text)).toEqual(JSON.parse(text));
  });
});
