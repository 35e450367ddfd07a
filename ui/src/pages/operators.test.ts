import { expect, test } from "vitest";
import type { RunningOperator } from "../api";
import { operatorLines } from "./operators";

const operator = (id: string, ...inputs: string[]): RunningOperator => ({
  id, part: "query", kind: "Join", text: id, inputs, rows_in_per_s: 0, rows_out_per_s: 0, cpu_ns_per_s: 0, ns_per_row: 0, held_bytes: 0,
});

// Catches a list that grows with the ways through a plan instead of with its operators.
test("an operator that is read twice is shown once with what is below it", () => {
  // The feed that it names is not among them.
  const lines = operatorLines([operator("output0", "join"), operator("join", "scan", "scan"), operator("scan", "feed")]);
  expect(lines.map((line) => [line.operator.id, line.depth, line.repeated])).toEqual([
    ["output0", 0, false], ["join", 1, false], ["scan", 2, false], ["scan", 2, true],
  ]);
});

// Catches a plan whose second output is left out.
test("every output begins a tree of its own", () => {
  const lines = operatorLines([operator("output0", "scan"), operator("output1", "scan"), operator("scan")]);
  expect(lines.map((line) => `${line.depth} ${line.operator.id}${line.repeated ? " again" : ""}`))
    .toEqual(["0 output0", "1 scan", "0 output1", "1 scan again"]);
});
