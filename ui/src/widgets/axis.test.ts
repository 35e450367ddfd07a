import { describe, expect, it } from "vitest";
import { axisText, labelSpace, valueRange } from "./axis";

const STEPS = [1, 2, 2.5, 5];

describe("the value axis", () => {
  // Catches: a chart of zeros scaled to "1 G/s", since a rate is stored per ns.
  it("ends at one of the unit where everything is zero", () => {
    for (const [semantic, text] of [["THROUGHPUT_PER_NS", "1/s"], ["THROUGHPUT_BYTES_PER_NS", "1 B/s"], ["PERCENT", "1 %"], ["DURATION_NS", "1 ms"], ["NONE", "1"]] as const) {
      const [low, high] = valueRange(0, 0, semantic);
      expect([low, axisText(high, semantic)]).toEqual([0, text]);
    }
    expect(valueRange(null, null, "NONE")).toEqual([0, 1]);
    expect(valueRange(-2, 3, "NONE")[0]).toBe(-2);
  });

  // Catches: "0" as the only label of a low chart.
  it("always has room for a label beside zero", () => {
    for (let height = 20; height < 400; height += 7) {
      for (let high = 1; high < 10; high += 0.13) {
        const least = (labelSpace(height) / height) * high;
        const steps = [0.1, 1, 10].flatMap((power) => STEPS.map((step) => step * power));
        expect(steps.some((step) => step >= least && step <= high), `${high} on ${height} px`).toBe(true);
      }
    }
  });
});
