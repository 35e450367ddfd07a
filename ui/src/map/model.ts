// From the rows of a Graph or RequestGraph widget to nodes and edges with throughput, error share and
// label. Pure; one row a pair, equal pairs are added up.
import type { Entry } from "../live/table-store";
import type { Column, DisplaySpec, Row, SchemaMessage, Value } from "../protocol";
import { joined, percent, quantity, rate, toNumber } from "../format/numbers";
import { entityText, parseScriptReference, plainText } from "../format/semantic";

/** More nodes than this are drawn as their namespaces first. */
export const NODES_MAX = 150;

export type Level = "none" | "medium" | "high";
export interface HoverLine {
  readonly name: string;
  readonly text: string;
}
export interface MapEdge {
  readonly from: string;
  readonly to: string;
  /** Throughput, in the column's own unit: sets the width relative to the widest edge. */
  readonly weight: number;
  readonly level: Level;
  readonly label: string;
  /** Said in words beside the colour; empty when all is well. */
  readonly alarm: string;
  /** The same where there is little room. */
  readonly alarmShort: string;
  readonly hover: readonly HoverLine[];
}
export interface MapNode {
  readonly id: string;
  readonly label: string;
  readonly group: string;
  /** Semantic type of the column that named it, for the link to its script. */
  readonly semantic: string;
  /** Members, when the node stands for a namespace. */
  readonly members: number;
  readonly caption: string;
  readonly level: Level;
}
export interface MapModel {
  readonly nodes: readonly MapNode[];
  readonly edges: readonly MapEdge[];
  readonly grouped: boolean;
  /** Levels to choose from, e.g. services and pods. */
  readonly levels: readonly string[];
}

const ERROR_MEDIUM = 0.01;
const ERROR_HIGH = 0.05;

const field = (spec: DisplaySpec, name: string): string => (typeof spec[name] === "string" ? (spec[name] as string) : "");

interface Half {
  readonly name: string;
  readonly semantic: string;
}

function nameOf(value: Value | undefined): string {
  if (value === undefined) return "";
  return parseScriptReference(value)?.label ?? entityText(value);
}

/** The first column that names something. */
function pick(row: Row, columns: readonly string[], schema: SchemaMessage): Half {
  for (const name of columns) {
    if (name === "") continue;
    const text = nameOf(row[name]);
    if (text !== "" && text !== "-") {
      return { name: text, semantic: schema.columns.find((column) => column.name === name)?.semantic ?? "NONE" };
    }
  }
  return { name: "unknown", semantic: "NONE" };
}

export function splitName(name: string): { group: string; label: string } {
  const slash = name.indexOf("/");
  return slash > 0 ? { group: name.slice(0, slash), label: name.slice(slash + 1) } : { group: "", label: name };
}

interface Sum {
  readonly from: Half;
  readonly to: Half;
  weight: number;
  errors: number;
  p50: number;
  p90: number;
  p99: number;
  inbound: number;
  outbound: number;
  total: number;
  rows: number;
  row: Row;
}

export const LEVELS = ["services", "pods"] as const;

export function requestGraph(entries: readonly Entry[], spec: DisplaySpec, schema: SchemaMessage, level: string, open: ReadonlySet<string>): MapModel {
  const has = (suffix: string): boolean =>
    ["requestor", "responder"].every((side) => schema.columns.some((column) => column.name === field(spec, `${side}${suffix}`)));
  const levels = [...(has("ServiceColumn") ? ["services"] : []), ...(has("PodColumn") ? ["pods"] : [])];
  const asPods = level === "pods" && levels.includes("pods");
  const order = (side: string): string[] => {
    const [service, pod, ip] = [`${side}ServiceColumn`, `${side}PodColumn`, `${side}IPColumn`].map((name) => field(spec, name));
    return asPods ? [pod ?? "", service ?? "", ip ?? ""] : [service ?? "", pod ?? "", ip ?? ""];
  };
  const [fromOrder, toOrder] = [order("requestor"), order("responder")];
  const halves = entries.map(({ row }) => [pick(row, fromOrder, schema), pick(row, toOrder, schema)] as const);
  const names = new Set(halves.flatMap(([from, to]) => [from.name, to.name]));
  const grouped = names.size > NODES_MAX;
  const fold = (half: Half): Half => {
    const { group } = splitName(half.name);
    return grouped && group !== "" && !open.has(group) ? { name: group, semantic: "NAMESPACE_NAME" } : half;
  };
  const number = (row: Row, name: string): number => {
    const value = toNumber(row[field(spec, name)]);
    return Number.isFinite(value) ? value : 0;
  };
  const rateColumn = schema.columns.find((column) => column.name === field(spec, "requestsPerSecondColumn"));
  const errorColumn = schema.columns.find((column) => column.name === field(spec, "errorRateColumn"));
  const sums = new Map<string, Sum>();
  entries.forEach(({ row, count }, index) => {
    const [fromHalf, toHalf] = halves[index] ?? [];
    if (fromHalf === undefined || toHalf === undefined) return;
    const [from, to] = [fold(fromHalf), fold(toHalf)];
    const key = `${from.name}\u0000${to.name}`;
    const sum = sums.get(key) ?? { from, to, weight: 0, errors: 0, p50: 0, p90: 0, p99: 0, inbound: 0, outbound: 0, total: 0, rows: 0, row };
    const weight = number(row, "requestsPerSecondColumn") * count;
    const error = number(row, "errorRateColumn");
    // An error column is a share of the requests, unless it is a rate itself.
    sum.errors += errorColumn?.semantic === "THROUGHPUT_PER_NS" ? error * count : error * weight;
    sum.weight += weight;
    sum.p50 = Math.max(sum.p50, number(row, "p50Column"));
    sum.p90 = Math.max(sum.p90, number(row, "p90Column"));
    sum.p99 = Math.max(sum.p99, number(row, "p99Column"));
    sum.inbound += number(row, "inboundBytesPerSecondColumn") * count;
    sum.outbound += number(row, "outboundBytesPerSecondColumn") * count;
    sum.total += number(row, "totalRequestCountColumn") * count;
    sum.rows += 1;
    sums.set(key, sum);
  });
  const semantic = (name: string, fallback: string): string => {
    const found = schema.columns.find((column) => column.name === field(spec, name))?.semantic ?? "NONE";
    return found === "NONE" ? fallback : found;
  };
  const rateText = (value: number): string =>
    rateColumn?.semantic === "THROUGHPUT_PER_NS" ? joined(rate(value)) : `${joined(quantity(value, "NONE"))}/s`;
  const edges = [...sums.values()].map((sum): MapEdge => {
    const share = sum.weight > 0 ? sum.errors / sum.weight : 0;
    const level: Level = share >= ERROR_HIGH ? "high" : share >= ERROR_MEDIUM ? "medium" : "none";
    const most = sum.rows > 1 ? " (highest)" : "";
    const latency = (value: number, name: string): string => joined(quantity(value, semantic(name, "DURATION_NS")));
    const hover: HoverLine[] = [
      { name: "requests", text: rateText(sum.weight) },
      { name: "errors", text: joined(percent(share)) },
      ...(field(spec, "p50Column") ? [{ name: `p50${most}`, text: latency(sum.p50, "p50Column") }] : []),
      ...(field(spec, "p90Column") ? [{ name: `p90${most}`, text: latency(sum.p90, "p90Column") }] : []),
      ...(field(spec, "p99Column") ? [{ name: `p99${most}`, text: latency(sum.p99, "p99Column") }] : []),
      ...(field(spec, "inboundBytesPerSecondColumn") ? [{ name: "in", text: joined(quantity(sum.inbound, "THROUGHPUT_BYTES_PER_NS")) }] : []),
      ...(field(spec, "outboundBytesPerSecondColumn") ? [{ name: "out", text: joined(quantity(sum.outbound, "THROUGHPUT_BYTES_PER_NS")) }] : []),
      ...(field(spec, "totalRequestCountColumn") ? [{ name: "in all", text: joined(quantity(sum.total, "NONE")) }] : []),
    ];
    return {
      from: sum.from.name, to: sum.to.name, weight: sum.weight, level, hover,
      label: sum.p99 > 0 ? latency(sum.p99, "p99Column") : "", alarm: level === "none" ? "" : `${joined(percent(share))} errors`,
      alarmShort: level === "none" ? "" : joined(percent(share)).replace(" ", ""),
    };
  });
  const caption = (incoming: number, outgoing: number): string =>
    incoming > 0 ? `${rateText(incoming)} in` : outgoing > 0 ? `${rateText(outgoing)} out` : "";
  return { nodes: nodesOf([...sums.values()], edges, names, caption), edges, grouped, levels };
}

function nodesOf(sums: readonly { from: Half; to: Half }[], edges: readonly MapEdge[], names: ReadonlySet<string>, caption: (incoming: number, outgoing: number) => string): MapNode[] {
  const halves = new Map<string, Half>();
  for (const { from, to } of sums) for (const half of [from, to]) halves.set(half.name, half);
  const incoming = new Map<string, number>();
  const outgoing = new Map<string, number>();
  const levels = new Map<string, Level>();
  for (const edge of edges) {
    incoming.set(edge.to, (incoming.get(edge.to) ?? 0) + edge.weight);
    outgoing.set(edge.from, (outgoing.get(edge.from) ?? 0) + edge.weight);
    const worst = levels.get(edge.to) ?? "none";
    if (edge.level === "high" || (edge.level === "medium" && worst === "none")) levels.set(edge.to, edge.level);
  }
  return [...halves.values()].map((half) => {
    const isGroup = half.semantic === "NAMESPACE_NAME" && !names.has(half.name);
    const members = isGroup ? [...names].filter((name) => splitName(name).group === half.name).length : 0;
    const { group, label } = splitName(half.name);
    return {
      id: half.name, label, group: isGroup ? `${members} members` : group, semantic: half.semantic, members,
      caption: caption(incoming.get(half.name) ?? 0, outgoing.get(half.name) ?? 0), level: levels.get(half.name) ?? "none",
    };
  });
}

/** A Graph widget says which columns carry what; false where it needs DOT text that this page does not draw. */
export const isDrawableGraph = (spec: DisplaySpec): boolean => typeof spec["adjacencyList"] === "object" && spec["adjacencyList"] !== null;

export function adjacencyGraph(entries: readonly Entry[], spec: DisplaySpec, schema: SchemaMessage, open: ReadonlySet<string>): MapModel {
  const adjacency = (spec["adjacencyList"] ?? {}) as { fromColumn?: string; toColumn?: string };
  const thresholds = (spec["edgeThresholds"] ?? {}) as { mediumThreshold?: number; highThreshold?: number };
  const [weightName, colorName] = [field(spec, "edgeWeightColumn"), field(spec, "edgeColorColumn")];
  const hoverNames = Array.isArray(spec["edgeHoverInfo"]) ? (spec["edgeHoverInfo"] as unknown[]).filter((name) => typeof name === "string") : [];
  const columns = new Map<string, Column>(schema.columns.map((column) => [column.name, column]));
  const labelName = [...hoverNames, colorName, weightName].find((name) => /p99/.test(name) && columns.has(name)) ?? (colorName || weightName);
  const halves = entries.map(({ row }) => [pick(row, [adjacency.fromColumn ?? ""], schema), pick(row, [adjacency.toColumn ?? ""], schema)] as const);
  const names = new Set(halves.flatMap(([from, to]) => [from.name, to.name]));
  const grouped = names.size > NODES_MAX;
  const fold = (half: Half): Half => {
    const { group } = splitName(half.name);
    return grouped && group !== "" && !open.has(group) ? { name: group, semantic: "NAMESPACE_NAME" } : half;
  };
  const sums = new Map<string, { from: Half; to: Half; weight: number; color: number; rows: Row[] }>();
  entries.forEach(({ row, count }, index) => {
    const [fromHalf, toHalf] = halves[index] ?? [];
    if (fromHalf === undefined || toHalf === undefined) return;
    const [from, to] = [fold(fromHalf), fold(toHalf)];
    const key = `${from.name}\u0000${to.name}`;
    const sum = sums.get(key) ?? { from, to, weight: 0, color: 0, rows: [] };
    const [weight, color] = [toNumber(row[weightName]), toNumber(row[colorName])];
    sum.weight += Number.isFinite(weight) ? weight * count : 0;
    sum.color = Math.max(sum.color, Number.isFinite(color) ? color : 0);
    sum.rows.push(row);
    sums.set(key, sum);
  });
  const text = (row: Row | undefined, name: string): string => {
    const column = columns.get(name);
    return column === undefined || row === undefined ? "" : plainText(row[name], column);
  };
  const edges = [...sums.values()].map((sum): MapEdge => {
    const level: Level =
      thresholds.highThreshold !== undefined && sum.color >= thresholds.highThreshold ? "high"
      : thresholds.mediumThreshold !== undefined && sum.color >= thresholds.mediumThreshold ? "medium" : "none";
    const single = sum.rows.length === 1 ? sum.rows[0] : undefined;
    const hover = single === undefined
      ? [{ name: "rows", text: String(sum.rows.length) }]
      : [...new Set([...hoverNames, weightName, colorName])].filter((name) => columns.has(name)).map((name) => ({ name, text: text(single, name) }));
    const colorColumn = columns.get(colorName);
    const alarmShort = level === "none" || colorColumn === undefined ? "" : joined(quantity(sum.color, colorColumn.semantic));
    const alarm = alarmShort === "" || labelName === colorName ? "" : `${alarmShort} ${colorName.replaceAll("_", " ")}`;
    return { from: sum.from.name, to: sum.to.name, weight: sum.weight, level, label: text(single, labelName), alarm, alarmShort, hover };
  });
  return { nodes: nodesOf([...sums.values()], edges, names, () => ""), edges, grouped, levels: [] };
}
