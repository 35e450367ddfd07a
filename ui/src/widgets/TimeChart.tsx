// A time series chart (uPlot on a canvas). The right edge is the view's frontier, so the picture
// glides; the newest bin, which is still filling, is drawn paler than what is settled.
import { useEffect, useLayoutEffect, useMemo, useRef, useState, type ReactNode } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { TableStore } from "../live/table-store";
import type { DisplaySpec } from "../protocol";
import { useDark, useSize, useTableVersion } from "../hooks";
import { cssColor, hue, hueIndex } from "../hues";
import { joined, quantity } from "../format/numbers";
import { clock, timeMs, windowMs } from "../format/time";
import { axisText, labelSpace, valueRange } from "./axis";
import { stack, timeSeries, type Series, type TimeSeries } from "./series";
import css from "./charts.module.css";

export interface TimeChartProps {
  readonly store: TableStore;
  readonly spec: DisplaySpec;
  /** RFC 3339; where the picture ends. */
  readonly frontier: string;
}

export function TimeChart({ store, spec, frontier }: TimeChartProps): ReactNode {
  const version = useTableVersion(store);
  // The store is mutable: its version stands for its content.
  const chart = useMemo(() => timeSeries(store.rows(), spec, store.schema), [store, version, spec]);
  const [only, setOnly] = useState<string | null>(null);
  const shown = useMemo(
    () => (only === null || !chart.series.some(({ name }) => name === only) ? chart : { ...chart, series: chart.series.filter(({ name }) => name === only) }),
    [chart, only],
  );
  const [hover, setHover] = useState<number | null>(null);
  const slot = hover !== null && hover < chart.timesMs.length ? hover : lastSettled(chart.timesMs);
  return (
    <div className={css.chart} data-testid="timechart">
      <Plot chart={shown} right={timeMs(frontier)} window={windowMs(store.schema.window?.from)} onHover={setHover} />
      <div className={css.legend}>
        {hover !== null && <span className={css.legendTime}>{clock(chart.timesMs[slot] ?? Number.NaN)}</span>}
        {chart.series.map((series) => (
          <button key={series.name} type="button" className={css.legendItem} aria-pressed={only === series.name} data-dim={only !== null && only !== series.name}
            title={only === series.name ? "show all" : `show only ${series.name}`} onClick={() => setOnly(only === series.name ? null : series.name)}>
            <i style={{ background: hue(series.hueName) }} />
            <span>{series.name}</span>
            <b>{valueText(series, slot, chart.semantic)}</b>
          </button>
        ))}
        {chart.omitted > 0 && <span className={css.note}>and {chart.omitted} smaller ones</span>}
      </div>
    </div>
  );
}

const lastSettled = (times: readonly number[]): number => Math.max(0, times.length - 2);

function valueText(series: Series, slot: number, semantic: string): string {
  const value = series.values[slot];
  return value === null || value === undefined ? "–" : joined(quantity(value, semantic));
}

interface PlotProps {
  readonly chart: TimeSeries;
  readonly right: number;
  readonly window: number;
  readonly onHover: (slot: number | null) => void;
}

function Plot({ chart, right, window: span, onHover }: PlotProps): ReactNode {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const drawnShape = useRef("");
  const { width, height } = useSize(host);
  const dark = useDark();
  const range = useRef({ left: 0, right: 1 });
  const last = chart.timesMs[chart.timesMs.length - 1] ?? 0;
  const end = Number.isFinite(right) ? right : last;
  range.current = { left: (Number.isFinite(span) ? end - span : (chart.timesMs[0] ?? end - 1)) / 1000, right: end / 1000 };
  // Only these ask for a new canvas; new numbers are set on the old one.
  const shape = `${dark} ${chart.semantic} ${chart.stacked} ${chart.series.map((each) => `${each.name}/${each.mode}`).join("\n")}`;
  const sized = width > 0 && height > 0;
  const latest = useRef(chart);
  latest.current = chart;

  useEffect(() => {
    if (host.current === null || !sized) return;
    const created = new uPlot(options(latest.current, range, width, height, onHover), dataOf(latest.current), host.current);
    plot.current = created;
    drawnShape.current = shape;
    return () => {
      created.destroy();
      plot.current = null;
    };
    // Size is followed below without a new canvas.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [shape, sized]);
  useLayoutEffect(() => {
    if (sized) plot.current?.setSize({ width, height });
  }, [width, height, sized]);
  useLayoutEffect(() => {
    // A canvas of other lines goes with the effect above, and what replaces it has this data already.
    if (drawnShape.current === shape) plot.current?.setData(dataOf(chart));
  }, [chart, shape]);
  useLayoutEffect(() => {
    plot.current?.setScale("x", { min: range.current.left, max: range.current.right });
  }, [end, span]);
  return <div className={css.plot} ref={host} />;
}

function dataOf(chart: TimeSeries): uPlot.AlignedData {
  const values = chart.stacked ? stack(chart.series) : chart.series.map((series) => series.values);
  return [chart.timesMs.map((ms) => ms / 1000), ...values] as uPlot.AlignedData;
}

function options(chart: TimeSeries, range: { readonly current: { left: number; right: number } }, width: number, height: number, onHover: (slot: number | null) => void): uPlot.Options {
  const [ink, line, panel] = [cssColor("--ink-3"), cssColor("--line"), cssColor("--panel")];
  const font = `11px ${cssColor("--sans")}`;
  const axis = { stroke: ink, font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
  const series = chart.series.map((each): uPlot.Series => {
    const stroke = cssColor(`--hue-${hueIndex(each.hueName)}`);
    return {
      label: each.name, stroke, width: each.mode === "point" ? 0 : 1.6, points: { show: each.mode === "point" ? true : isolated, size: 4, fill: stroke },
      ...(each.mode === "area" ? { fill: `${stroke}${chart.stacked ? "66" : "22"}` } : {}), ...(each.dashed ? { dash: [5, 4] } : {}),
    };
  });
  const bands = chart.stacked ? chart.series.slice(1).map((_, at) => ({ series: [at + 2, at + 1] as [number, number] })) : [];
  return {
    width, height, series: [{}, ...series], bands, legend: { show: false }, padding: [8, TIME_LABEL_PX / 2, 0, 0],
    cursor: { sync: { key: "page" }, points: { size: 6 }, drag: { x: false, y: false }, y: false },
    scales: { x: { time: true, range: () => [range.current.left, range.current.right] }, y: { range: (_, low, high) => valueRange(low, high, chart.semantic) } },
    axes: [
      { ...axis, size: 24, gap: 4, grid: { show: false }, space: 60, incrs: STEPS_S, values: (_, splits) => splits.map((second) => clock(second * 1000)) },
      { ...axis, size: 64, gap: 6, space: (_plot, _axis, _low, _high, axisPx) => labelSpace(axisPx), values: (_, splits) => splits.map((value) => axisText(value, chart.semantic)) },
    ],
    hooks: {
      draw: [(plot) => paleUnsettled(plot, panel)],
      setCursor: [(plot) => onHover(plot.cursor.idx ?? null)],
    },
  };
}

/** The width of a time of day: the last one stands half beyond the plot. */
const TIME_LABEL_PX = 52;
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400];

/** A lone value between holes would be invisible as a line: draw points where there are few values. */
const isolated: uPlot.Series.Points.Show = (plot, at) => {
  const values = plot.data[at] as (number | null)[];
  return values.filter((value) => value !== null).length < 3;
};

function paleUnsettled(plot: uPlot, panel: string): void {
  const times = plot.data[0];
  const from = times[times.length - 2];
  if (from === undefined) return;
  const { left, top, width, height } = plot.bbox;
  const x = Math.max(left, plot.valToPos(from, "x", true));
  if (x >= left + width) return;
  plot.ctx.save();
  plot.ctx.globalAlpha = 0.62;
  plot.ctx.fillStyle = panel;
  plot.ctx.fillRect(x, top, left + width - x, height);
  plot.ctx.restore();
}
