// What draws each kind of widget that is not a table: the one list of the page's drawings.
import type { ReactNode } from "react";
import type { TableStore } from "../live/table-store";
import { ServiceMap } from "../map/ServiceMap";
import type { DisplaySpec } from "../protocol";
import type { Kind } from "./place";
import { Bars, Histogram, Stat } from "./simple";
import { TimeChart } from "./TimeChart";

export interface Drawing {
  readonly store: TableStore;
  readonly spec: DisplaySpec;
  /** Where time charts end. */
  readonly frontier: string;
}

export const DRAWN: Readonly<Partial<Record<Kind, (drawing: Drawing) => ReactNode>>> = {
  requestgraph: ({ store, spec }) => <ServiceMap store={store} spec={spec} kind="request" />,
  graph: ({ store, spec }) => <ServiceMap store={store} spec={spec} kind="adjacency" />,
  timeseries: ({ store, spec, frontier }) => <TimeChart store={store} spec={spec} frontier={frontier} />,
  histogram: ({ store, spec }) => <Histogram store={store} spec={spec} />,
  bar: ({ store, spec }) => <Bars store={store} spec={spec} />,
  stat: ({ store, spec }) => <Stat store={store} spec={spec} />,
};
