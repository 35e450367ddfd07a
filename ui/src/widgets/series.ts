// From rows to what charts draw. Pure.
import type { Entry } from "../live/table-store";
import type { Column, DisplaySpec, SchemaMessage } from "../protocol";
import { toNumber } from "../format/numbers";
import { entityText, parseScriptReference, plainText } from "../format/semantic";
import { timeMs } from "../format/time";

/** Lines drawn in one chart; the largest win and the rest are counted. */
export const SERIES_MAX = 32;

export interface Series {
  readonly name: string;
  /** Names its colour: the entity, the same on the whole page. */
  readonly hueName: string;
  readonly dashed: boolean;
  readonly mode: "line" | "point" | "area";
  readonly values: (number | null)[];
}
export interface TimeSeries {
  readonly timesMs: readonly number[];
  readonly series: readonly Series[];
  readonly omitted: number;
  readonly stacked: boolean;
  readonly semantic: string;
}

interface Wanted {
  readonly value: string;
  readonly series: string;
  readonly mode: Series["mode"];
  readonly stacked: boolean;
}

const MODES: Readonly<Record<string, Series["mode"]>> = { MODE_POINT: "point", MODE_AREA: "area", MODE_LINE: "line" };

function wanted(spec: DisplaySpec): Wanted[] {
  const list = Array.isArray(spec["timeseries"]) ? (spec["timeseries"] as Record<string, unknown>[]) : [];
  return list.map((each) => ({
    value: String(each["value"] ?? ""), series: String(each["series"] ?? ""), mode: MODES[String(each["mode"])] ?? "line",
    stacked: each["stackBySeries"] === true,
  }));
}

const nameOf = (value: unknown): string =>
  value === undefined ? "" : (parseScriptReference(value as string)?.label ?? entityText(value as string));

export function timeSeries(entries: readonly Entry[], spec: DisplaySpec, schema: SchemaMessage): TimeSeries {
  const wants = wanted(spec);
  const index = new Map<number, number>();
  const times = [...new Set(entries.map(({ row }) => timeMs(row["time_"])))].filter(Number.isFinite).sort((a, b) => a - b);
  times.forEach((time, at) => index.set(time, at));
  const found = new Map<string, { series: Series; sum: number }>();
  wants.forEach((want, at) => {
    // Rows of one line at one instant: rates and counts add up, latencies and shares do not.
    const semantic = schema.columns.find((column) => column.name === want.value)?.semantic ?? "NONE";
    const adds = semantic !== "DURATION_NS" && semantic !== "PERCENT";
    for (const { row } of entries) {
      const slot = index.get(timeMs(row["time_"]));
      const value = toNumber(row[want.value]);
      if (slot === undefined || !Number.isFinite(value)) continue;
      const entity = want.series === "" ? "" : nameOf(row[want.series]) || "(none)";
      const label = want.value.replaceAll("_", " ");
      const name = entity === "" ? label : wants.length > 1 ? `${entity} · ${label}` : entity;
      let line = found.get(name);
      if (line === undefined) {
        const values: (number | null)[] = times.map(() => null);
        line = { series: { name, hueName: entity || label, dashed: entity !== "" && at > 0, mode: want.mode, values }, sum: 0 };
        found.set(name, line);
      }
      const before = line.series.values[slot] ?? null;
      line.series.values[slot] = before === null ? value : adds ? before + value : Math.max(before, value);
      line.sum += Math.abs(value);
    }
  });
  const ranked = [...found.values()].sort((a, b) => b.sum - a.sum || (a.series.name < b.series.name ? -1 : 1));
  // Order by name once chosen: legends whose lines change places cannot be read.
  const series = ranked.slice(0, SERIES_MAX).map((line) => line.series).sort((a, b) => (a.name < b.name ? -1 : 1));
  const first = schema.columns.find((column) => column.name === wants[0]?.value);
  return { timesMs: times, series, omitted: Math.max(0, ranked.length - SERIES_MAX), stacked: wants.some((want) => want.stacked), semantic: first?.semantic ?? "NONE" };
}

/** Running sums from the first series up; a hole counts nothing. */
export function stack(series: readonly Series[]): (number | null)[][] {
  const sums: number[] = [];
  return series.map(({ values }) => values.map((value, at) => {
    sums[at] = (sums[at] ?? 0) + (value ?? 0);
    return sums[at] ?? null;
  }));
}

export interface Bin {
  readonly from: number;
  readonly to: number;
  readonly count: number;
}

const NICE = [1, 2, 2.5, 5, 10];
function niceStep(rough: number): number {
  const power = 10 ** Math.floor(Math.log10(rough));
  return (NICE.find((step) => step * power >= rough * 0.999) ?? 10) * power;
}

export function histogram(entries: readonly Entry[], spec: DisplaySpec): { bins: readonly Bin[]; value: string } {
  const wantedBins = (spec["histogram"] ?? {}) as { value?: string; prebinCount?: string; maxbins?: number; minstep?: number };
  const value = wantedBins.value ?? "";
  const points = entries
    .map(({ row, count }) => ({ at: toNumber(row[value]), count: (wantedBins.prebinCount ? toNumber(row[wantedBins.prebinCount]) : 1) * count }))
    .filter(({ at, count }) => Number.isFinite(at) && Number.isFinite(count) && count > 0);
  if (points.length === 0) return { bins: [], value };
  const least = points.reduce((min, { at }) => Math.min(min, at), Infinity);
  const most = points.reduce((max, { at }) => Math.max(max, at), -Infinity);
  const binsMax = wantedBins.maxbins && wantedBins.maxbins > 0 ? wantedBins.maxbins : 24;
  const step = most === least ? Math.max(wantedBins.minstep ?? 0, Math.abs(most) * 0.1 || 1) : niceStep(Math.max((most - least) / binsMax, wantedBins.minstep ?? 0));
  const first = Math.floor(least / step);
  const counts: number[] = Array.from({ length: Math.floor(most / step) - first + 1 }, () => 0);
  for (const { at, count } of points) {
    const slot = Math.floor(at / step) - first;
    counts[slot] = (counts[slot] ?? 0) + count;
  }
  return { value, bins: counts.map((count, at) => ({ from: (first + at) * step, to: (first + at + 1) * step, count })) };
}

export interface Bar {
  readonly label: string;
  readonly total: number;
  readonly parts: readonly { readonly name: string; readonly value: number }[];
}

export function bars(entries: readonly Entry[], spec: DisplaySpec, schema: SchemaMessage): { bars: readonly Bar[]; stacks: readonly string[]; semantic: string; horizontal: boolean } {
  const want = (spec["bar"] ?? {}) as { value?: string; label?: string; stackBy?: string; groupBy?: string; horizontal?: boolean };
  const column = (name: string | undefined): Column | undefined => schema.columns.find((each) => each.name === name);
  const [valueColumn, labelColumn] = [column(want.value), column(want.label)];
  const sums = new Map<string, Map<string, number>>();
  const stacks = new Set<string>();
  for (const { row, count } of entries) {
    const value = toNumber(row[want.value ?? ""]);
    if (!Number.isFinite(value)) continue;
    const text = labelColumn === undefined ? "" : plainText(row[labelColumn.name], labelColumn);
    const group = want.groupBy ? nameOf(row[want.groupBy]) : "";
    const label = group === "" ? text : `${group} · ${text}`;
    const part = want.stackBy ? nameOf(row[want.stackBy]) : "";
    stacks.add(part);
    const parts = sums.get(label) ?? new Map<string, number>();
    parts.set(part, (parts.get(part) ?? 0) + value * count);
    sums.set(label, parts);
  }
  const names = [...stacks].sort();
  const list = [...sums].sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true })).map(([label, parts]) => ({
    label, total: [...parts.values()].reduce((sum, each) => sum + each, 0),
    parts: names.flatMap((name) => (parts.has(name) ? [{ name, value: parts.get(name) ?? 0 }] : [])),
  }));
  return { bars: list, stacks: names.filter((name) => name !== ""), semantic: valueColumn?.semantic ?? "NONE", horizontal: want.horizontal === true };
}
