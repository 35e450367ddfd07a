// The service map: who talks to whom, drawn in our own SVG. Width is throughput, colour the error
// share (said in words too), the label p99. Nodes keep their places; see layout.ts.
import { memo, useEffect, useMemo, useRef, useState, type PointerEvent, type ReactNode } from "react";
import type { TableStore } from "../live/table-store";
import type { DisplaySpec } from "../protocol";
import { useReducedMotion, useSize, useTableVersion } from "../hooks";
import { hue } from "../hues";
import { scriptLink } from "../route";
import { entityScript, useShell } from "../shell/context";
import { Icon, StatusMark } from "../shell/icons";
import { NODE_HEIGHT, wayOf, type Way } from "./edges";
import { labelBox, placeLabels, type Label } from "./labels";
import { boundsOf, COMPACT, edgeKey, entryPoint, MapLayout, type Box, type LayoutNode, type Point } from "./layout";
import { adjacencyGraph, requestGraph, type MapEdge, type MapModel, type MapNode } from "./model";
import { fitting, LABEL_FONT, NAME_FONT, NOTE_FONT, textWidth } from "./text";
import css from "./map.module.css";

const MOVE_MS = 450;
const ZOOM_MIN = 0.15;
const ZOOM_MAX = 3;
/** A map of few nodes is not blown up to fill the widget. */
const FIT_ZOOM_MAX = 1.15;
/** Nor is a large one made illegible: the rest is a drag away. */
const FIT_ZOOM_MIN = 0.6;
const ROOMY_ZOOM_MIN = 0.78;
const FIT_MARGIN_PX = 28;

const NODE_WIDTH_MIN = 104;
const NODE_WIDTH_MAX = 220;
/** Left of a node's text, and right of it; a mark stands beside the name. */
const TEXT_LEFT_PX = 20;
const TEXT_RIGHT_PX = 12;
const MARK_PX = 14;

const noteOf = (node: MapNode): string => [node.group, node.caption].filter((text) => text !== "").join(" · ");

function nodeWidth(node: MapNode): number {
  const texts = Math.max(textWidth(node.label, NAME_FONT) + MARK_PX, textWidth(noteOf(node), NOTE_FONT));
  return Math.ceil(Math.min(NODE_WIDTH_MAX, Math.max(NODE_WIDTH_MIN, TEXT_LEFT_PX + texts + TEXT_RIGHT_PX)) / 4) * 4;
}

/** Widths by name, growing only, so that a longer number does not shift a node's edges. */
function useLayoutNodes(model: MapModel): LayoutNode[] {
  const widths = useRef(new Map<string, number>());
  return model.nodes.map((node) => {
    const width = Math.max(widths.current.get(node.id) ?? 0, nodeWidth(node));
    widths.current.set(node.id, width);
    return { id: node.id, width, height: NODE_HEIGHT };
  });
}

export const ServiceMap = memo(function ServiceMap({ store, spec, kind }: { readonly store: TableStore; readonly spec: DisplaySpec; readonly kind: "request" | "adjacency" }): ReactNode {
  const version = useTableVersion(store);
  const [level, setLevel] = useState("services");
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set());
  const model = useMemo(
    () => (kind === "request" ? requestGraph(store.rows(), spec, store.schema, level, open) : adjacencyGraph(store.rows(), spec, store.schema, open)),
    // The store is mutable: its version stands for its content.
    // eslint-disable-next-line react-hooks/exhaustive-deps
    [store, version, spec, kind, level, open],
  );
  const nodes = useLayoutNodes(model);
  const host = useRef<HTMLDivElement>(null);
  const size = useSize(host);
  const layout = useFittingLayout(nodes, model.edges, size);
  const [arranged, setArranged] = useState(0);
  const { shown, moveTo } = useAnimatedPositions(layout, nodes, model.edges, arranged, size.width > 0);
  const view = useView(host, size, nodes, layout);
  const [focus, setFocus] = useState<string | null>(null);
  const [hovered, setHovered] = useState<{ edge: MapEdge; at: Point } | null>(null);

  const near = useMemo(() => {
    if (focus === null) return null;
    const ids = new Set([focus]);
    for (const edge of model.edges) {
      if (edge.from === focus) ids.add(edge.to);
      if (edge.to === focus) ids.add(edge.from);
    }
    return ids;
  }, [focus, model.edges]);
  const most = model.edges.reduce((max, edge) => Math.max(max, edge.weight), 0);
  const drawn = drawnEdges(model.edges, nodes, layout, shown);
  const width = new Map(nodes.map((node) => [node.id, node.width]));
  const places = placeLabels(drawn.map(({ label }) => label), boxesOf(nodes, shown));
  const isDim = (edge: MapEdge): boolean => near !== null && edge.from !== focus && edge.to !== focus;
  const hoveredNow = hovered === null ? undefined : model.edges.find((edge) => edge.from === hovered.edge.from && edge.to === hovered.edge.to);

  return (
    <div className={css.map} ref={host} data-testid="service-map" data-nodes={model.nodes.length} data-generation={layout.generation}>
      <svg className={css.canvas} {...view.panHandlers} onClick={() => setFocus(null)} role="group" aria-label="service map">
        <defs>
          {(["none", "medium", "high"] as const).map((each) => (
            <marker key={each} id={`arrow-${each}`} viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto">
              <path d="M0 .8 7.4 4 0 7.2z" className={css[`arrow_${each}`]} />
            </marker>
          ))}
        </defs>
        <g transform={view.transform}>
          {drawn.map(({ edge, way }) => (
            <Edge key={edgeKey(edge)} edge={edge} way={way} share={most > 0 ? edge.weight / most : 0} dim={isDim(edge)}
              onHover={(at) => setHovered(at === null ? null : { edge, at })} />
          ))}
          {drawn.map(({ edge, label }) => (
            <EdgeLabel key={edgeKey(edge)} edge={edge} label={label} at={places.get(label.key)} dim={isDim(edge)}
              onHover={(at) => setHovered(at === null ? null : { edge, at })} />
          ))}
          {model.nodes.map((node) => (
            <Node key={node.id} node={node} at={shown.get(node.id)} width={width.get(node.id) ?? 0} dim={near !== null && !near.has(node.id)}
              focused={focus === node.id} scale={view.zoom} onMove={(point) => moveTo(node.id, point)}
              onFocus={() => (node.members > 0 ? setOpen(new Set([...open, node.id])) : setFocus(focus === node.id ? null : node.id))} />
          ))}
        </g>
      </svg>
      <Controls model={model} level={level} setLevel={setLevel} zoom={view.zoomBy} fit={view.fit} open={open} closeGroups={() => setOpen(new Set())}
        arrange={() => { layout.arrange(nodes, model.edges); setArranged(arranged + 1); view.fit(); }} />
      {hoveredNow !== undefined && hovered !== null && <EdgeCard edge={hoveredNow} at={hovered.at} host={size} />}
      {focus !== null && <FocusCard node={model.nodes.find((node) => node.id === focus)} edges={model.edges} onClose={() => setFocus(null)} />}
    </div>
  );
});

/** Places as drawn: they move to the layout's once it has changed, and new nodes come out of a peer.
 *  Nothing is placed before the widget's size, which chooses the layout, is known (`ready`). */
function useAnimatedPositions(layout: MapLayout, nodes: readonly LayoutNode[], edges: readonly MapEdge[], arranged: number, ready: boolean): { shown: ReadonlyMap<string, Point>; moveTo: (id: string, point: Point) => void } {
  const still = useReducedMotion();
  const shown = useRef(new Map<string, Point>());
  const [, redraw] = useState(0);
  const first = shown.current.size === 0;
  for (const node of nodes) {
    const own = ready ? layout.positions.get(node.id) : undefined;
    if (own === undefined || shown.current.has(node.id)) continue;
    shown.current.set(node.id, first || still ? own : entryPoint(node.id, edges, shown.current, own));
  }
  useEffect(() => {
    if (!ready) return;
    const from = new Map(shown.current);
    const startMs = performance.now();
    let frame = 0;
    const step = (): void => {
      const part = still ? 1 : Math.min(1, (performance.now() - startMs) / MOVE_MS);
      const eased = 1 - (1 - part) ** 3;
      for (const [id, target] of layout.positions) {
        const start = from.get(id) ?? target;
        shown.current.set(id, { x: start.x + (target.x - start.x) * eased, y: start.y + (target.y - start.y) * eased });
      }
      redraw((count) => count + 1);
      if (part < 1) frame = requestAnimationFrame(step);
    };
    step();
    return () => cancelAnimationFrame(frame);
  }, [layout, layout.generation, arranged, still, ready]);
  const moveTo = (id: string, point: Point): void => {
    layout.place(id, point);
    shown.current.set(id, point);
    redraw((count) => count + 1);
  };
  return { shown: shown.current, moveTo };
}

/** The roomy layout where it is legible in the widget, else the compact one. Each keeps its own places. */
function useFittingLayout(nodes: readonly LayoutNode[], edges: readonly MapEdge[], size: { width: number; height: number }): MapLayout {
  const layouts = useRef({ roomy: new MapLayout(), compact: new MapLayout(COMPACT) });
  const { roomy, compact } = layouts.current;
  roomy.update(nodes, edges);
  if (size.width === 0 || fitTo(boundsOf(nodes, roomy.positions), size, 0).zoom >= ROOMY_ZOOM_MIN) return roomy;
  compact.update(nodes, edges);
  return compact;
}

interface View {
  readonly transform: string;
  readonly zoom: number;
  readonly fit: () => void;
  readonly zoomBy: (factor: number) => void;
  readonly panHandlers: object;
}

/** Pan and zoom. Until the reader takes hold of it, the view follows the map's bounds. */
function useView(host: React.RefObject<HTMLDivElement | null>, size: { width: number; height: number }, nodes: readonly LayoutNode[], layout: MapLayout): View {
  const [own, setOwn] = useState<{ zoom: number; x: number; y: number } | null>(null);
  const grabbed = useRef<{ x: number; y: number; viewX: number; viewY: number } | null>(null);
  const box = boundsOf(nodes, layout.positions);
  const fitted = fitTo(box, size, FIT_ZOOM_MIN);
  const view = own ?? fitted;
  const zoomAt = (factor: number, x: number, y: number): void => {
    const zoom = Math.max(ZOOM_MIN, Math.min(ZOOM_MAX, view.zoom * factor));
    setOwn({ zoom, x: x - ((x - view.x) * zoom) / view.zoom, y: y - ((y - view.y) * zoom) / view.zoom });
  };
  const latest = useRef(zoomAt);
  latest.current = zoomAt;
  useEffect(() => {
    const element = host.current;
    if (element === null) return;
    // Only with ctrl or cmd (and pinch, which sends ctrl): a plain wheel scrolls the page.
    const onWheel = (event: WheelEvent): void => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const at = element.getBoundingClientRect();
      latest.current(Math.exp(-event.deltaY / 300), event.clientX - at.left, event.clientY - at.top);
    };
    element.addEventListener("wheel", onWheel, { passive: false });
    return () => element.removeEventListener("wheel", onWheel);
  }, [host]);
  const panHandlers = {
    onPointerDown: (event: PointerEvent<SVGSVGElement>) => {
      if (event.button !== 0) return;
      grabbed.current = { x: event.clientX, y: event.clientY, viewX: view.x, viewY: view.y };
    },
    onPointerMove: (event: PointerEvent<SVGSVGElement>) => {
      const from = grabbed.current;
      if (from === null || event.buttons === 0) return;
      const [dx, dy] = [event.clientX - from.x, event.clientY - from.y];
      if (own === null && Math.hypot(dx, dy) < 4) return;
      setOwn({ zoom: view.zoom, x: from.viewX + dx, y: from.viewY + dy });
    },
    onPointerUp: () => { grabbed.current = null; },
  };
  return {
    zoom: view.zoom, fit: () => setOwn(null), panHandlers,
    zoomBy: (factor) => zoomAt(factor, size.width / 2, size.height / 2),
    transform: `translate(${view.x.toFixed(2)} ${view.y.toFixed(2)}) scale(${view.zoom.toFixed(4)})`,
  };
}

function fitTo(box: Box, size: { width: number; height: number }, least: number): { zoom: number; x: number; y: number } {
  const room = { width: Math.max(1, size.width - 2 * FIT_MARGIN_PX), height: Math.max(1, size.height - 2 * FIT_MARGIN_PX) };
  const zoom = Math.max(least, Math.min(FIT_ZOOM_MAX, room.width / box.width, room.height / box.height));
  // What does not fit is shown from its beginning, on the left: where requests come in.
  const x = box.width * zoom > size.width ? FIT_MARGIN_PX / 2 - box.x * zoom : size.width / 2 - (box.x + box.width / 2) * zoom;
  return { zoom, x, y: size.height / 2 - (box.y + box.height / 2) * zoom };
}

interface DrawnEdge {
  readonly edge: MapEdge;
  readonly way: Way;
  readonly label: Label;
}

/** Edges between nodes that have a place, with their ways and what stands on them. */
function drawnEdges(edges: readonly MapEdge[], nodes: readonly LayoutNode[], layout: MapLayout, shown: ReadonlyMap<string, Point>): DrawnEdge[] {
  const width = new Map(nodes.map((node) => [node.id, node.width]));
  const pairs = new Set(edges.map(edgeKey));
  // In a small widget there is room for alarms only, and for those in short.
  const isCompact = layout.spacing === COMPACT;
  return edges.flatMap((edge) => {
    const [from, to] = [shown.get(edge.from), shown.get(edge.to)];
    if (from === undefined || to === undefined) return [];
    const twoWay = edge.from !== edge.to && pairs.has(edgeKey({ from: edge.to, to: edge.from }));
    const way = wayOf(edge, layout, { from, to, fromWidth: width.get(edge.from) ?? 0, toWidth: width.get(edge.to) ?? 0, twoWay });
    const lines = (isCompact ? [edge.alarmShort] : [edge.label, edge.alarm]).filter((text) => text !== "");
    const textPx = Math.max(0, ...lines.map((text) => textWidth(text, LABEL_FONT)));
    return [{ edge, way, label: { key: edgeKey(edge), lines, textPx, along: way.along, mustShow: edge.level !== "none" } }];
  });
}

function boxesOf(nodes: readonly LayoutNode[], shown: ReadonlyMap<string, Point>): Box[] {
  return nodes.flatMap(({ id, width, height }) => {
    const at = shown.get(id);
    return at === undefined ? [] : [{ x: at.x - width / 2, y: at.y - height / 2, width, height }];
  });
}

interface OverEdge {
  readonly edge: MapEdge;
  readonly dim: boolean;
  readonly onHover: (at: Point | null) => void;
}

const hoverHandlers = (onHover: OverEdge["onHover"]): object => ({
  onPointerMove: (event: PointerEvent) => onHover({ x: event.nativeEvent.offsetX, y: event.nativeEvent.offsetY }),
  onPointerLeave: () => onHover(null),
});

function Edge({ edge, way, share, dim, onHover }: OverEdge & { readonly way: Way; readonly share: number }): ReactNode {
  return (
    <g className={css.edge} data-level={edge.level} data-dim={dim} {...hoverHandlers(onHover)}>
      <path d={way.path} className={css.edgeHit} />
      <path d={way.path} className={css.edgeLine} strokeWidth={1.4 + 5.6 * Math.sqrt(share)} markerEnd={`url(#arrow-${edge.level})`} />
    </g>
  );
}

/** Above all edges: no line crosses a number. */
function EdgeLabel({ edge, label, at, dim, onHover }: OverEdge & { readonly label: Label; readonly at: Point | undefined }): ReactNode {
  if (at === undefined) return null;
  const box = labelBox(label, at);
  return (
    <g className={css.edge} data-level={edge.level} data-dim={dim} data-testid="map-label" {...hoverHandlers(onHover)}>
      <rect x={box.x} y={box.y} width={box.width} height={box.height} rx="7" className={css.labelBack} />
      {label.lines.map((text, line) => <text key={line} x={at.x} y={box.y + 12 + line * 14} textAnchor="middle" className={css.label}>{text}</text>)}
    </g>
  );
}

interface NodeProps {
  readonly node: MapNode;
  readonly at: Point | undefined;
  readonly width: number;
  readonly dim: boolean;
  readonly focused: boolean;
  readonly scale: number;
  readonly onMove: (point: Point) => void;
  readonly onFocus: () => void;
}

function Node({ node, at, width, dim, focused, scale, onMove, onFocus }: NodeProps): ReactNode {
  const grabbed = useRef<{ x: number; y: number; at: Point; moved: boolean } | null>(null);
  if (at === undefined) return null;
  const onDown = (event: PointerEvent<SVGGElement>): void => {
    event.stopPropagation();
    event.currentTarget.setPointerCapture(event.pointerId);
    grabbed.current = { x: event.clientX, y: event.clientY, at, moved: false };
  };
  const onPointerMove = (event: PointerEvent<SVGGElement>): void => {
    const from = grabbed.current;
    if (from === null || event.buttons === 0) return;
    const [dx, dy] = [event.clientX - from.x, event.clientY - from.y];
    if (!from.moved && Math.hypot(dx, dy) < 4) return;
    from.moved = true;
    onMove({ x: from.at.x + dx / scale, y: from.at.y + dy / scale });
  };
  const room = width - TEXT_LEFT_PX - TEXT_RIGHT_PX;
  const second = fitting(noteOf(node), NOTE_FONT, room);
  const label = fitting(node.label, NAME_FONT, node.level === "none" ? room : room - MARK_PX);
  return (
    <g className={css.node} data-level={node.level} data-dim={dim} data-focused={focused} tabIndex={0} role="button" aria-label={node.id} data-testid="map-node"
      transform={`translate(${at.x - width / 2} ${at.y - NODE_HEIGHT / 2})`} onPointerDown={onDown} onPointerMove={onPointerMove}
      onClick={(event) => { event.stopPropagation(); if (grabbed.current?.moved !== true) onFocus(); }}
      onKeyDown={(event) => { if (event.key === "Enter") onFocus(); }}>
      <title>{node.id}</title>
      <rect width={width} height={NODE_HEIGHT} rx="8" className={css.nodeBox} />
      <rect x="8" y="10" width="4" height={NODE_HEIGHT - 20} rx="2" style={{ fill: node.members > 0 ? "var(--ink-3)" : hue(node.id) }} />
      <text x={TEXT_LEFT_PX} y={second === "" ? 27 : 19} className={css.nodeName}>{label}</text>
      {second !== "" && <text x={TEXT_LEFT_PX} y="34" className={css.nodeNote}>{second}</text>}
      {node.level !== "none" && <g transform={`translate(${width - 18} 9)`}><StatusMark status={node.level === "high" ? "bad" : "warn"} /></g>}
    </g>
  );
}

function Controls({ model, level, setLevel, zoom, fit, arrange, open, closeGroups }: {
  readonly model: MapModel; readonly level: string; readonly setLevel: (level: string) => void; readonly zoom: (factor: number) => void;
  readonly fit: () => void; readonly arrange: () => void; readonly open: ReadonlySet<string>; readonly closeGroups: () => void;
}): ReactNode {
  return (
    <>
      <div className={css.controls}>
        <button type="button" title="zoom in (ctrl + wheel)" aria-label="zoom in" onClick={() => zoom(1.25)}><Icon name="plus" /></button>
        <button type="button" title="zoom out" aria-label="zoom out" onClick={() => zoom(0.8)}><Icon name="minus" /></button>
        <button type="button" title="show all" aria-label="show all" onClick={fit}><Icon name="fit" /></button>
        <button type="button" title="arrange anew" aria-label="arrange anew" onClick={arrange}><Icon name="arrange" /></button>
      </div>
      <div className={css.options}>
        {model.levels.length > 1 && (
          <div className={css.segments} role="group" aria-label="what a node is">
            {model.levels.map((each) => <button key={each} type="button" aria-pressed={level === each} onClick={() => setLevel(each)}>{each}</button>)}
          </div>
        )}
        {model.grouped && <span className={css.hint}>many nodes: drawn by namespace, click one to open it</span>}
        {open.size > 0 && <button type="button" className={css.reset} onClick={closeGroups}>close all</button>}
      </div>
    </>
  );
}

function EdgeCard({ edge, at, host }: { readonly edge: MapEdge; readonly at: Point; readonly host: { width: number; height: number } }): ReactNode {
  const left = at.x + 260 > host.width ? at.x - 244 : at.x + 16;
  const top = Math.max(4, Math.min(at.y + 12, host.height - 40 - edge.hover.length * 20));
  return (
    <div className={css.card} style={{ left, top }} role="status">
      <strong>{edge.from} → {edge.to}</strong>
      <dl>{edge.hover.map(({ name, text }) => <div key={name}><dt>{name.replaceAll("_", " ")}</dt><dd>{text}</dd></div>)}</dl>
    </div>
  );
}

function FocusCard({ node, edges, onClose }: { readonly node: MapNode | undefined; readonly edges: readonly MapEdge[]; readonly onClose: () => void }): ReactNode {
  const shell = useShell();
  if (node === undefined) return null;
  const target = entityScript(shell, node.semantic, node.id);
  const sides = [
    { title: "called by", list: edges.filter((edge) => edge.to === node.id).map((edge) => ({ name: edge.from, edge })) },
    { title: "calls", list: edges.filter((edge) => edge.from === node.id).map((edge) => ({ name: edge.to, edge })) },
  ];
  return (
    <div className={css.focus}>
      <header><strong>{node.id}</strong><button type="button" aria-label="close" onClick={onClose}><Icon name="close" /></button></header>
      {sides.filter(({ list }) => list.length > 0).map(({ title, list }) => (
        <div key={title}>
          <h4>{title}</h4>
          {list.map(({ name, edge }) => <p key={name}><span>{name}</span><b>{edge.hover[0]?.text}</b><i data-level={edge.level}>{edge.alarm || edge.label}</i></p>)}
        </div>
      ))}
      {target !== null && <a href={scriptLink(target.script, target.args)}>open {target.script}</a>}
    </div>
  );
}
