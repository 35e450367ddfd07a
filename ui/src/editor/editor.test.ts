import { describe, expect, it } from "vitest";
import { columnOffset } from "./positions";
import { ALL_WIDGETS, chooseRun, displaysItself, functionsOf, requestOf, visOfFunction } from "./scratch";

describe("editor", () => {
  // Catches: an underline shifted by every emoji or other astral character before it.
  it("places columns by characters", () => {
    expect(columnOffset("df.x", 4)).toBe(3);
    expect(columnOffset("'😀é' + x", 7)).toBe(7);
    expect(columnOffset("ab", 9)).toBe(2);
    expect(columnOffset("ab", 0)).toBe(0);
  });

  it("finds functions and their parameters", () => {
    const text = "import px\n\ndef a(start_time: str, n: int = 5):\n    def inner(z):\n        pass\n\ndef b():\n    pass\npx.display(a('-5m'))\n";
    expect(functionsOf(text)).toEqual([{ name: "a", parameters: ["start_time", "n"] }, { name: "b", parameters: [] }]);
    expect(displaysItself(text)).toBe(true);
    expect(displaysItself("def a():\n    px.display(df)\n")).toBe(false);
  });

  const text = "def a(start_time: str, n: int):\n    return 1\ndef b():\n    return 2\n";
  const both = { variables: [{ name: "start_time", type: "PX_STRING", defaultValue: "-5m" }, { name: "n", type: "PX_INT64" }], widgets: [{ func: { name: "a" } }, { func: { name: "b" } }] };

  // Catches: an edited script that silently runs something else than the reader sees.
  it("runs all widgets while their functions exist, else what is left", () => {
    expect(chooseRun(ALL_WIDGETS, text, both)).toBe(ALL_WIDGETS);
    expect(chooseRun("b", text, both)).toBe("b");
    expect(chooseRun("gone", text, both)).toBe(ALL_WIDGETS);
    expect(chooseRun(ALL_WIDGETS, "def b():\n    return 2\n", both)).toBe("b");
    expect(chooseRun(ALL_WIDGETS, "px.display(df)\n", both)).toBe("");
    expect(chooseRun(ALL_WIDGETS, "px.display(df)\n", null)).toBe("");
  });

  it("asks with the arguments that fit", () => {
    const values = { n: "3", other: "x" };
    expect(requestOf(text, "a", both, values)).toEqual({ text, func: "a", args: { start_time: "-5m", n: "3" } });
    expect(requestOf(text, ALL_WIDGETS, both, values)).toEqual({ text, vis: JSON.stringify(both), args: { n: "3" } });
    expect(requestOf(text, "", both, values)).toEqual({ text });
  });

  it("keeps a function's widgets over an edit", () => {
    const vis = { globalFuncs: [{ outputName: "LET", func: { name: "a" } }], widgets: [{ name: "W", globalFuncOutputName: "LET", displaySpec: { "@type": "x.Graph" } }, { name: "V", func: { name: "b" } }] };
    expect(visOfFunction(vis, "a", ["out"])).toEqual({ widgets: [{ globalFuncOutputName: "out", displaySpec: { "@type": "x.Graph" }, name: "W" }] });
    expect(visOfFunction(vis, "c", ["out"])).toBeNull();
  });
});
