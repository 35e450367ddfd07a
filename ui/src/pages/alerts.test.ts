import { describe, expect, it } from "vitest";
import type { Alert, AlertReceiver, AlertRule } from "../messages";
import { alertKey, inOrder, isBehind, labelName, previewText, ruleOf, silenceLink } from "./alerts";

const alert = (state: "pending" | "firing", at: string, labels: Record<string, string> = {}): Alert => ({
  alertname: "A", rule: 1, state, labels: { alertname: "A", ...labels }, annotations: {}, value: 1, active_at: at,
  fired_at: state === "firing" ? at : null, completeness: { complete: true, why: "" }, error: null,
});
const rule = (labels: Record<string, string>): AlertRule => ({
  id: 1, group: "g", name: "A", file: "f", expr: "e", state: "running", for_ns: 0, keep_firing_for_ns: 0, labels, annotations: {},
  pending: 0, firing: 1, evaluated_at: null, incomplete: "", last_error: "",
});

describe("alerts", () => {
  // Catches a list whose first lines are not what burns.
  it("stand worst first, newest first", () => {
    const all = [alert("pending", "3"), alert("firing", "1"), alert("firing", "2")];
    expect(inOrder(all).map((each) => `${each.state} ${each.active_at}`)).toEqual(["firing 2", "firing 1", "pending 3"]);
  });

  // Catches rows of other alerts, and an alert without rows because its rule sets a label.
  it("know their rows", () => {
    const of = alert("firing", "1", { a_b: "x", severity: "page" });
    const page = rule({ severity: "page" });
    expect(isBehind({ "a.b": "x", value: 2.5, severity: "other" }, of, page)).toBe(true);
    expect(isBehind({ "a.b": "y", value: 2.5, severity: "other" }, of, page)).toBe(false);
    expect(isBehind({ "a.b": "x", empty: "" }, of, page)).toBe(true);
    expect(labelName("9 ä")).toBe("_9__");
    const named = alert("firing", "1", { "a.b": "x" });
    expect(isBehind({ "a.b": "x" }, named, page)).toBe(true);
    expect(isBehind({ "a.b": "y" }, named, page)).toBe(false);
  });

  // Catches the rule of another group that has the same name, and rows of a list that have one key.
  it("know their rule, though another has its name", () => {
    const rules = [rule({}), { ...rule({}), id: 2, group: "h", expr: "f" }];
    const [first, second] = [alert("firing", "1", { a: "x" }), { ...alert("firing", "1", { a: "x" }), rule: 2 }];
    expect([ruleOf(first, rules)?.expr, ruleOf(second, rules)?.expr]).toEqual(["e", "f"]);
    expect(ruleOf({ ...first, rule: 3 }, rules)).toBeUndefined();
    expect(alertKey(first)).not.toBe(alertKey(second));
    expect(alertKey(first)).not.toBe(alertKey(alert("firing", "1", { a: "y" })));
  });

  // Catches a preview that says nothing of what it could not see.
  it("are foretold in words", () => {
    const made = { looks: 121, incomplete: 0, fired: 3, firing: 0, errors: 0, last_error: "" };
    expect(previewText(made)).toBe("It would have fired 3 times in the last hour (121 looks).");
    expect(previewText({ ...made, fired: 0, incomplete: 7 })).toBe("It would not have fired in the last hour (121 looks, 7 of them at answers that are not complete).");
    expect(previewText({ ...made, fired: 1, errors: 2, last_error: "limit" })).toContain("have fired once in the last hour (121 looks); 2 gave no alerts: limit.");
  });

  // A value of the traffic must not end the matcher, nor a receiver make a link that runs a script.
  it("are silenced at the Alertmanager", () => {
    const to = (url: string): AlertReceiver => ({ name: "m", type: "alertmanager", to: url, state: "running", waiting: 0, sent: 0, lost: 0, refused: 0, errors: 0, last_error: "" });
    const link = silenceLink(alert("firing", "1", { path: 'a"} & #' }), [to("javascript:alert(1)"), to("http://am:9093")]);
    expect(link).toBe(`http://am:9093/#/silences/new?filter=${encodeURIComponent('{alertname="A",path="a\\"} & #"}')}`);
    const quoted = silenceLink(alert("firing", "1", { 'a-"b': "x" }), [to("http://am:9093")]);
    expect(quoted).toBe(`http://am:9093/#/silences/new?filter=${encodeURIComponent('{alertname="A","a-\\"b"="x"}')}`);
    expect(silenceLink(alert("firing", "1"), [])).toBeNull();
    // What is below a path is not known: no link rather than a wrong one.
    expect(silenceLink(alert("firing", "1"), [to("http://am:9093/…")])).toBeNull();
  });
});
