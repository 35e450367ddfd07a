import { describe, expect, it } from "vitest";
import type { Diagnostic } from "../protocol";
import { asked, EMPTY, isReady, lineRange, placeOf } from "./draft";

const finding = (file: string, line: number, column = 3): Diagnostic => ({
  code: "wrong_rule", severity: "error", message: "m", file, line, column, end_line: line, end_column: column, label: "", hint: "",
});

describe("drafts of rules", () => {
  // Catches a draft that is sent with what the other way of writing it left behind, which the server refuses.
  it("are sent as what is seen", () => {
    expect(asked({ ...EMPTY, mode: "rules", rules: "groups: []" })).toEqual({ rules: "groups: []" });
    expect(asked({ ...EMPTY, text: "t", when: "n > 1", hold: " 1m " })).toEqual({ text: "t", when: "n > 1", for: "1m" });
    expect(asked({ ...EMPTY, text: "t", when: "n > 1", hold: " " })).toEqual({ text: "t", when: "n > 1" });
    expect([isReady(EMPTY), isReady({ ...EMPTY, when: " " }), isReady({ ...EMPTY, mode: "rules", when: "" })]).toEqual([true, false, true]);
  });

  // Catches a finding whose line is that of another part of the draft.
  it("have findings where they are", () => {
    expect(placeOf(finding("script", 4))).toBe("script, line 4, column 3");
    expect(placeOf(finding("rules", 7, 0))).toBe("rule file, line 7, column 1");
    expect([placeOf(finding("when", 1)), placeOf(finding("for", 1)), placeOf(finding("rules", 0))]).toEqual(["condition", "for", "rule file"]);
  });

  it("know their lines", () => {
    const text = "one\ntwo\n\nfour";
    expect([1, 2, 3, 4, 9, 0].map((line) => text.slice(...lineRange(text, line)))).toEqual(["one", "two", "", "four", "four", "one"]);
  });
});
