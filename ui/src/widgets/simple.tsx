// Charts that need no library: histogram, bars, a single figure, a text.
import { useMemo, useRef, type ReactNode } from "react";
import type { TableStore } from "../live/table-store";
import type { DisplaySpec } from "../protocol";
import { useSize, useTableVersion } from "../hooks";
import { hue } from "../hues";
import { compact, joined, quantity } from "../format/numbers";
import { formatNumber, isNumeric, plainText } from "../format/semantic";
import { bars, histogram } from "./series";
import css from "./charts.module.css";

interface ChartProps {
  readonly store: TableStore;
  readonly spec: DisplaySpec;
}

const AXIS_PX = 22;

export function Histogram({ store, spec }: ChartProps): ReactNode {
  const version = useTableVersion(store);
  const { bins, value } = useMemo(() => histogram(store.rows(), spec), [store, version, spec]);
  const host = useRef<HTMLDivElement>(null);
  const { width, height } = useSize(host);
  const semantic = store.column(value)?.semantic ?? "NONE";
  const most = bins.reduce((max, bin) => Math.max(max, bin.count), 0);
  const plotHeight = Math.max(0, height - AXIS_PX);
  const step = bins.length > 0 ? width / bins.length : 0;
  const every = Math.max(1, Math.ceil(64 / Math.max(step, 1)));
  return (
    <div className={css.svgHost} ref={host}>
      <svg width={width} height={height} role="img" aria-label={`histogram of ${value}`}>
        <line x1="0" x2={width} y1={plotHeight + 0.5} y2={plotHeight + 0.5} className={css.axisLine} />
        {bins.map((bin, at) => {
          const tall = most > 0 ? (bin.count / most) * Math.max(0, plotHeight - 12) : 0;
          const label = `${joined(quantity(bin.from, semantic))} – ${joined(quantity(bin.to, semantic))}: ${bin.count.toLocaleString("en-US")}`;
          return (
            <g key={bin.from}>
              <rect x={at * step} y="0" width={step} height={plotHeight} fill="transparent"><title>{label}</title></rect>
              <rect x={at * step + 1} y={plotHeight - tall} width={Math.max(1, step - 2)} height={tall} rx="1.5" className={css.bar} pointerEvents="none" />
              {at % every === 0 && at * step + 40 < width && <text x={at * step + 1} y={height - 6} className={css.axisText}>{joined(quantity(bin.from, semantic))}</text>}
            </g>
          );
        })}
        {most > 0 && <text x={width - 2} y="11" textAnchor="end" className={css.axisText}>{`highest bin ${joined(compact(most))}`}</text>}
      </svg>
    </div>
  );
}

export function Bars({ store, spec }: ChartProps): ReactNode {
  const version = useTableVersion(store);
  const chart = useMemo(() => bars(store.rows(), spec, store.schema), [store, version, spec]);
  const most = chart.bars.reduce((max, bar) => Math.max(max, bar.total), 0);
  return (
    <div className={css.bars} data-horizontal={chart.horizontal}>
      <div className={css.barList}>
        {chart.bars.map((bar) => {
          const share = most > 0 ? (bar.total / most) * 100 : 0;
          const text = joined(quantity(bar.total, chart.semantic));
          const title = bar.parts.map(({ name, value }) => `${name || bar.label}: ${joined(quantity(value, chart.semantic))}`).join("\n");
          return (
            <div key={bar.label} className={css.barItem} title={title}>
              <span className={css.barLabel}>{bar.label}</span>
              <span className={css.barTrack}>
                <span className={css.barFill} style={chart.horizontal ? { width: `${share}%` } : { height: `${share}%` }}>
                  {bar.parts.map(({ name, value }) => (
                    <i key={name} style={{ flexGrow: Math.max(0, value), background: name === "" ? "var(--accent)" : hue(name) }} />
                  ))}
                </span>
              </span>
              <span className={css.barValue}>{text}</span>
            </div>
          );
        })}
      </div>
      {chart.stacks.length > 0 && (
        <div className={css.legend}>
          {chart.stacks.map((name) => <span key={name} className={css.legendItem}><i style={{ background: hue(name) }} /><span>{name}</span></span>)}
        </div>
      )}
    </div>
  );
}

export function Stat({ store, spec }: ChartProps): ReactNode {
  useTableVersion(store);
  const want = (spec["stat"] ?? {}) as { value?: string };
  const rows = store.rows();
  const column = store.column(want.value ?? "");
  const row = rows[0]?.row;
  if (column === undefined || row === undefined) return <div className={css.stat}>–</div>;
  const value = row[column.name];
  const { text, unit } = isNumeric(column) && value !== undefined ? formatNumber(value, column) : { text: plainText(value, column), unit: "" };
  return (
    <div className={css.stat}>
      <b>{text}</b><span>{unit}</span>
      {rows.length > 1 && <em>first of {rows.length} rows</em>}
    </div>
  );
}
