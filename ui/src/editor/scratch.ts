// The text that the editor runs. It lives in this browser (localStorage), not in the address.
import { useSyncExternalStore } from "react";
import type { Request, Vis } from "../protocol";

/** Run all that the vis file shows. */
export const ALL_WIDGETS = "*";

export interface Scratch {
  readonly text: string;
  /** What to run: a function, `ALL_WIDGETS`, or empty for the module's own displays. */
  readonly func: string;
  readonly args: Readonly<Record<string, string>>;
  /** The script it was made from, and its vis, so that widgets can be kept. */
  readonly from: string;
  readonly vis: Vis | null;
}

const KEY = "weir.scratch";

function load(): Scratch | null {
  try {
    const value = JSON.parse(localStorage.getItem(KEY) ?? "null") as Partial<Scratch> | null;
    if (value === null || typeof value.text !== "string") return null;
    return { text: value.text, func: value.func ?? "", args: value.args ?? {}, from: value.from ?? "", vis: value.vis ?? null };
  } catch {
    return null;
  }
}

let current: Scratch | null | undefined;
const listeners = new Set<() => void>();

function get(): Scratch | null {
  current ??= load();
  return current;
}

export function setScratch(scratch: Scratch): void {
  current = scratch;
  try {
    localStorage.setItem(KEY, JSON.stringify(scratch));
  } catch {
    // Storage may be full or forbidden: the text still runs, it only does not survive a reload.
  }
  for (const listener of listeners) listener();
}

export const useScratch = (): Scratch | null =>
  useSyncExternalStore((listener) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, get);

export interface ScriptFunction {
  readonly name: string;
  readonly parameters: readonly string[];
}

/** The functions a text defines at its top level, by a look at its lines; the server has the last word. */
export function functionsOf(text: string): ScriptFunction[] {
  const found: ScriptFunction[] = [];
  for (const match of text.matchAll(/^def\s+([A-Za-z_]\w*)\s*\(([^)]*)\)/gm)) {
    const parameters = (match[2] ?? "").split(",").map((each) => each.split(/[:=]/)[0]?.trim() ?? "").filter((name) => name !== "" && !name.startsWith("*"));
    found.push({ name: match[1] ?? "", parameters });
  }
  return found;
}

/** True if the text displays something outside of functions. */
export const displaysItself = (text: string): boolean => /^px\.(display|debug|export)\s*\(/m.test(text);

/** The vis of a text that runs one function: the widgets that showed that function. */
export function visOfFunction(vis: Vis | null, func: string, tables: readonly string[]): Vis | null {
  const table = tables[0];
  if (vis === null || func === "" || table === undefined) return null;
  const outputs = new Set((vis.globalFuncs ?? []).filter((each) => each.func.name === func).map((each) => each.outputName));
  const widgets = (vis.widgets ?? []).filter((each) => each.func?.name === func || outputs.has(each.globalFuncOutputName ?? ""));
  return widgets.length === 0 ? null : { widgets: widgets.map(({ displaySpec, position, name }) => ({ globalFuncOutputName: table, ...(displaySpec ? { displaySpec } : {}), ...(position ? { position } : {}), ...(name ? { name } : {}) })) };
}

function functionNamesOf(vis: Vis | null): string[] {
  return [...(vis?.globalFuncs ?? []).map((each) => each.func.name), ...(vis?.widgets ?? []).flatMap((each) => each.func?.name ?? [])];
}

/** What a text runs: the reader's choice while the text allows it, else as much as it can. */
export function chooseRun(wanted: string, text: string, vis: Vis | null): string {
  const names = new Set(functionsOf(text).map((each) => each.name));
  const shown = functionNamesOf(vis);
  const canAll = shown.length > 0 && shown.every((name) => names.has(name));
  if (names.has(wanted) || (wanted === ALL_WIDGETS && canAll) || (wanted === "" && displaysItself(text))) return wanted;
  if (canAll) return ALL_WIDGETS;
  if (displaysItself(text)) return "";
  return shown.find((name) => names.has(name)) ?? "";
}

/** The request that runs (or checks) a text; `values` holds every argument known by name. */
export function requestOf(text: string, run: string, vis: Vis | null, values: Readonly<Record<string, string>>): Request {
  if (run === "") return { text };
  if (run === ALL_WIDGETS && vis !== null) {
    const variables = new Set((vis.variables ?? []).map((variable) => variable.name));
    return { text, vis: JSON.stringify(vis), args: Object.fromEntries(Object.entries(values).filter(([name]) => variables.has(name))) };
  }
  const parameters = functionsOf(text).find((each) => each.name === run)?.parameters ?? [];
  const defaults = Object.fromEntries((vis?.variables ?? []).flatMap((each) => (each.defaultValue === undefined ? [] : [[each.name, each.defaultValue]])));
  const known = { ...defaults, ...values };
  return { text, func: run, args: Object.fromEntries(parameters.flatMap((name) => (known[name] === undefined ? [] : [[name, known[name]]]))) };
}
