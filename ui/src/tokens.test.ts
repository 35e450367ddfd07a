import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";

const css = readFileSync(new URL("./tokens.css", import.meta.url), "utf8");
const [light = "", dark = ""] = css.split("@media (prefers-color-scheme: dark)");
const tokensOf = (text: string): Map<string, string> => new Map([...text.matchAll(/(--[\w-]+): (#[0-9a-f]{6});/g)].map((match) => [match[1] ?? "", match[2] ?? ""]));

function luminance(hex: string): number {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const value = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function contrast(a: string, b: string): number {
  const [x, y] = [luminance(a), luminance(b)].sort((m, n) => n - m) as [number, number];
  return (x + 0.05) / (y + 0.05);
}

// WCAG AA: 4.5 for text, 3 for what carries meaning in a drawing. Catches a colour tuned by eye in one theme only.
const TEXT: [string, string[]][] = [
  ["--ink", ["--panel", "--canvas", "--panel-2", "--hover", "--accent-soft"]],
  ["--ink-2", ["--panel", "--canvas", "--hover", "--bad-soft"]],
  ["--ink-3", ["--panel", "--canvas", "--panel-2", "--hover"]],
  ["--accent", ["--panel", "--accent-soft", "--hover"]],
  ["--accent-ink", ["--accent"]],
  ["--ok", ["--panel"]],
  ["--warn", ["--panel", "--warn-soft"]],
  ["--bad", ["--panel", "--bad-soft"]],
];
const DRAWN = [...Array.from({ length: 8 }, (_, at) => `--hue-${at}`), "--edge-high"];

describe.each([["light", tokensOf(light)], ["dark", new Map([...tokensOf(light), ...tokensOf(dark)])]] as const)("%s colours", (_, tokens) => {
  const pairs = TEXT.flatMap(([ink, grounds]) => grounds.map((ground) => [ink, ground] as const));
  it.each(pairs)("%s reads on %s", (ink, ground) => expect(contrast(tokens.get(ink) ?? "", tokens.get(ground) ?? "")).toBeGreaterThanOrEqual(4.5));
  it.each(DRAWN)("%s is seen", (name) => expect(contrast(tokens.get(name) ?? "", tokens.get("--panel") ?? "")).toBeGreaterThanOrEqual(3));
});
