// The views that are being kept true right now: what each costs, and, opened, what each of its operators does.
import { Fragment, useState, type ReactNode } from "react";
import { api, type JsonObject, type RunningOperator } from "../api";
import { usePolled } from "../hooks";
import { bytes, compact, duration, joined, percent, threeDigits, toNumber } from "../format/numbers";
import { scriptLink } from "../route";
import { useShell } from "../shell/context";
import { ListPage } from "./ListPage";
import { operatorLines, type OperatorLine } from "./operators";
import css from "./pages.module.css";

const POLL_MS = 2_000;
/** Deeper operators are not moved further to the right. */
const INDENT_MAX = 12;

const perSecond = (value: unknown): string => {
  const number = toNumber(value);
  return Number.isFinite(number) ? `${number < 1000 ? threeDigits(number) : joined(compact(number))}/s` : "–";
};
const size = (value: unknown): string => joined(bytes(toNumber(value) || 0));
const time = (ns: unknown): string => joined(duration(Math.round(toNumber(ns) || 0)));
/** Nanoseconds of work in a second, as a share of one core. */
const share = (ns: unknown): string => joined(percent((toNumber(ns) || 0) / 1e9));

export function QueriesPage(): ReactNode {
  const { value, error } = usePolled(api.queries, POLL_MS);
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set());
  const toggle = (query: string): void => {
    setOpen((old) => {
      const next = new Set(old);
      if (!next.delete(query)) next.add(query);
      return next;
    });
  };
  return (
    <ListPage title="Queries" note="The views that are kept true right now. One view serves all who look at it; what it reads is shared, too." error={error}>
      {value !== null && value.length === 0 && <p className={css.none}>No view is being kept. Open a script and it appears here.</p>}
      {value !== null && value.length > 0 && (
        <div className={css.wide}>
          <table className={css.records}>
            <thead>
              <tr>
                <th>query</th>
                {["readers", "refresh", "late", "rows in", "rows out", "held", "processor"].map((name) => <th key={name} data-right="true">{name}</th>)}
              </tr>
            </thead>
            <tbody>
              {value.map((query) => {
                const number = String(query["query"]);
                return <QueryRows key={number} number={number} query={query} isOpen={open.has(number)} toggle={toggle} />;
              })}
            </tbody>
          </table>
        </div>
      )}
    </ListPage>
  );
}

function QueryRows({ number, query, isOpen, toggle }: {
  readonly number: string; readonly query: JsonObject; readonly isOpen: boolean; readonly toggle: (query: string) => void;
}): ReactNode {
  const { scripts } = useShell();
  const name = String(query["name"] ?? number);
  return (
    <Fragment>
      <tr data-testid="query">
        <td>
          <button type="button" className={css.open} aria-expanded={isOpen} aria-label={`operators of ${name}`} onClick={() => toggle(number)}>{isOpen ? "▾" : "▸"}</button>
          {scripts.some((script) => script.name === name) ? <a href={scriptLink(name)}>{name}</a> : name}
        </td>
        <td data-right="true">{String(query["subscribers"] ?? 0)}</td>
        <td data-right="true">{time(toNumber(query["refresh_ms"]) * 1e6)}</td>
        <td data-right="true">{time(query["lateness_ns"])}</td>
        <td data-right="true">{perSecond(query["rows_in_per_s"])}</td>
        <td data-right="true">{perSecond(query["rows_out_per_s"])}</td>
        <td data-right="true">{size(query["held_bytes"])}</td>
        <td data-right="true">{share(query["cpu_ns_per_s"])}</td>
      </tr>
      {isOpen && <tr><td colSpan={8} className={css.inside}><Operators number={number} /></td></tr>}
    </Fragment>
  );
}

function Operators({ number }: { readonly number: string }): ReactNode {
  const { value, error } = usePolled(() => api.query(number), POLL_MS);
  if (value === null) return error === null ? null : <p className={css.none}>{error.message}</p>;
  return (
    <table className={css.operators} data-testid="operators">
      <thead>
        <tr><th>operator</th>{["in", "out", "held", "processor", "a row"].map((name) => <th key={name} data-right="true">{name}</th>)}</tr>
      </thead>
      <tbody>
        {operatorLines(value.operators).map((line, at) => <OperatorRow key={`${line.operator.id} ${at}`} line={line} />)}
      </tbody>
    </table>
  );
}

const WHERE: Readonly<Record<RunningOperator["part"], string>> = { query: "", feed: "shared", node: "on nodes" };

function OperatorRow({ line: { operator, depth, repeated } }: { readonly line: OperatorLine }): ReactNode {
  const figures = operator.kind === null || repeated
    ? null
    : [perSecond(operator.rows_in_per_s), perSecond(operator.rows_out_per_s), size(operator.held_bytes), share(operator.cpu_ns_per_s), time(operator.ns_per_row)];
  const readers = operator.readers?.length ?? 0;
  const where = readers > 1 ? `shared by ${readers}` : WHERE[operator.part];
  return (
    <tr>
      <td style={{ paddingInlineStart: 16 * Math.min(depth, INDENT_MAX) }} title={operator.text}>
        <span className={css.operator}>{operator.text}</span>
        {where !== "" && <span className={css.where}>{where}</span>}
        {repeated && <span className={css.where}>as above</span>}
      </td>
      {figures === null ? <td colSpan={5} /> : figures.map((text, at) => <td key={at} data-right="true">{text}</td>)}
    </tr>
  );
}
