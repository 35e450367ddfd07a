import { describe, expect, it } from "vitest";
import type { Column, DataType, Value } from "../protocol";
import { byteRate, bytes, duration, grouped, joined, percent, quantity, rate, threeDigits } from "./numbers";
import { compareValues, httpStatusClass, parseQuantiles, parseScriptReference, plainText, upidText } from "./semantic";
import { timeMs, windowMs } from "./time";

const column = (type: DataType, semantic = "NONE", name = "c"): Column => ({ name, type, semantic, desc: "" });

describe("numbers", () => {
  it.each([
    [0, "0"], [0.01234, "0.0123"], [1.2345, "1.23"], [12.345, "12.3"], [123.45, "123"], [1234.5, "1235"],
    [9.996, "10.0"], [99.96, "100"], [-1.5, "−1.50"], [Number.NaN, "NaN"], [Number.POSITIVE_INFINITY, "∞"], [1e-9, "1.00e−9"],
  ])("%d has three digits: %s", (value, text) => expect(threeDigits(value)).toBe(text));

  // Catches: a unit off by one step at its edges (1000 µs, 60 s, 1024 B).
  it.each([
    [999, "999 ns"], [12, "12 ns"], [999.9, "1.00 µs"], [1_500, "1.50 µs"], [1_000_000, "1.00 ms"], [2.5e9, "2.50 s"], [90e9, "1.50 min"],
    [7_200e9, "2.00 h"], [172_800e9, "2.00 d"], [-1_500, "−1.50 µs"], [0, "0 ns"],
  ])("%d ns is %s", (value, text) => expect(joined(duration(value))).toBe(text));

  it("knows bytes, shares and rates by what scripts store", () => {
    expect(joined(bytes(1023))).toBe("1023 B");
    expect(joined(bytes(12))).toBe("12 B");
    expect(joined(bytes(1024))).toBe("1.00 KiB");
    expect(joined(bytes(3.5 * 1024 ** 2))).toBe("3.50 MiB");
    expect(joined(percent(0.1234))).toBe("12.3 %");
    expect(joined(rate(1.5e-9))).toBe("1.50/s");
    expect(joined(rate(2.5e-6))).toBe("2.50 k/s");
    expect(joined(byteRate(2048e-9))).toBe("2.00 KiB/s");
  });

  // Catches: twelve requests shown as 12.0.
  it("does not measure what is counted", () => {
    expect([12, -3, 0, 12.5, 12_000].map((value) => joined(quantity(value, "NONE")))).toEqual(["12", "−3", "0", "12.5", "12.0 k"]);
  });

  it("groups all digits of an INT64", () => {
    expect(grouped(9223372036854775807n)).toBe("9,223,372,036,854,775,807");
  });
});

describe("cells", () => {
  it.each<[Value, Column, string]>([
    [1_500_000, column("INT64", "DURATION_NS"), "1.50 ms"],
    [443, column("INT64", "PORT"), "443"],
    [40123, column("INT64", "NONE", "pid"), "40123"],
    [40123, column("INT64"), "40,123"],
    ["NaN", column("FLOAT64"), "NaN"],
    [0.5, column("FLOAT64", "PERCENT"), "50.0 %"],
    ['{"label":"cart","script":"px/pod","args":{"pod":"shop/cart"}}', column("STRING", "SCRIPT_REFERENCE"), "cart"],
    ["not json", column("STRING", "SCRIPT_REFERENCE"), "not json"],
  ])("%s reads %s", (value, of, text) => expect(plainText(value, of)).toBe(text));

  it("reads script references, and refuses what is none", () => {
    expect(parseScriptReference('{"label":"a","script":"px/pod","args":{"n":1}}')).toEqual({ label: "a", script: "px/pod", args: { n: "1" } });
    expect(parseScriptReference('{"label":1}')).toBeNull();
    expect(parseScriptReference("[]")).toBeNull();
  });

  it("reads quantiles only when they are whole", () => {
    expect(parseQuantiles('{"p01":1,"p10":2,"p25":3,"p50":4,"p75":5,"p90":6,"p99":7}')?.p99).toBe(7);
    expect(parseQuantiles('{"p50":4}')).toBeNull();
  });

  it("finds the pid in a UPID", () => {
    expect(upidText("00000001-0000-1234-0000-0000000000ff")).toBe("pid 4660");
    expect(upidText("00000000-0000-0000-0000-000000000000")).toBe("–");
  });

  it("classes HTTP status", () => {
    expect([0, 200, 302, 404, 503].map(httpStatusClass)).toEqual(["none", "ok", "info", "warn", "bad"]);
  });

  // Catches: sorting big integers or numbers as text.
  it("orders by value", () => {
    expect(compareValues(9007199254740993n, 9, column("INT64"))).toBe(1);
    expect(compareValues(10, 9.5, column("FLOAT64"))).toBe(1);
    expect(compareValues("NaN", 1, column("FLOAT64"))).toBeLessThan(0);
  });
});

describe("times", () => {
  it("reads nine digits", () => {
    expect(timeMs("2026-01-01T00:00:01.250000000Z")).toBeCloseTo(Date.UTC(2026, 0, 1, 0, 0, 1, 250), 3);
    expect(timeMs("soon")).toBeNaN();
  });
  it("reads windows", () => {
    expect(windowMs("-5m")).toBe(300_000);
    expect(windowMs("")).toBeNaN();
  });
});
