// Everything about one row: headers as a table, JSON as a tree, bodies as text, times in full. The
// arrow keys go to the neighbours in the order of the table it came from.
import { useEffect, type ReactNode } from "react";
import type { TableStore } from "../live/table-store";
import type { Column, Value } from "../protocol";
import { useTableVersion } from "../hooks";
import { Cell } from "../format/cell";
import { dateClock, timeMs } from "../format/time";
import { grouped } from "../format/numbers";
import { isNumeric, isQuantiles, parseObject } from "../format/semantic";
import { Icon } from "../shell/icons";
import type { Selection } from "../widgets/Widget";
import { JsonTree } from "./JsonTree";
import css from "./details.module.css";

const LONG_TEXT = 60;

export function DetailsPanel({ store, selection, onSelect, onClose }: {
  readonly store: TableStore; readonly selection: Selection; readonly onSelect: (selection: Selection) => void; readonly onClose: () => void;
}): ReactNode {
  useTableVersion(store);
  const current = store.rows().find((entry) => entry.id === selection.id);
  const { row } = current ?? selection.entry;
  const step = (by: number): void => {
    const list = selection.neighbours();
    const at = list.findIndex((entry) => entry.id === selection.id);
    const next = list[at < 0 ? 0 : at + by];
    if (next !== undefined) onSelect({ ...selection, id: next.id, entry: next });
  };
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (event.key === "Escape" && !event.defaultPrevented) onClose();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, [onClose]);
  const onKeyDown = (event: React.KeyboardEvent): void => {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    step(event.key === "ArrowDown" ? 1 : -1);
  };
  const { columns } = store.schema;
  const plain = columns.filter((column) => !isBlock(row[column.name], column));
  const blocks = columns.filter((column) => isBlock(row[column.name], column));
  return (
    <aside className={css.panel} aria-label="row details" data-testid="details" tabIndex={-1} onKeyDown={onKeyDown}>
      <header className={css.head}>
        <h2>Row of {selection.table}</h2>
        {current === undefined && <span className={css.gone} title="what is shown is the row as it was">has left the view</span>}
        <span className={css.gap} />
        <button type="button" aria-label="previous row" title="previous row (↑)" onClick={() => step(-1)}><Icon name="up" /></button>
        <button type="button" aria-label="next row" title="next row (↓)" onClick={() => step(1)}><Icon name="down" /></button>
        <button type="button" aria-label="close details" title="close (Esc)" onClick={onClose}><Icon name="close" /></button>
      </header>
      <div className={css.scroll}>
        <dl className={css.fields}>
          {plain.map((column) => (
            <div key={column.name}>
              <dt title={column.desc}>{label(column)}</dt>
              <dd><Exact value={row[column.name]} column={column} /></dd>
            </div>
          ))}
        </dl>
        {blocks.map((column) => <Block key={column.name} column={column} value={row[column.name]} />)}
      </div>
    </aside>
  );
}

const label = (column: Column): string => column.name.replace(/_+$/, "").replaceAll("_", " ");

function isBlock(value: Value | undefined, column: Column): boolean {
  if (column.type !== "STRING" || column.semantic === "SCRIPT_REFERENCE" || isQuantiles(column)) return false;
  const text = String(value ?? "");
  return parseObject(text) !== null || text.length > LONG_TEXT || text.includes("\n");
}

function Exact({ value, column }: { readonly value: Value | undefined; readonly column: Column }): ReactNode {
  if (value === undefined || value === "") return <span className={css.faint}>empty</span>;
  if (column.type === "TIME64NS") return <>{dateClock(timeMs(value))}<small>{String(value)}</small></>;
  const exact =
    isNumeric(column) && column.semantic !== "NONE" && column.semantic !== "PORT" && column.semantic !== "HTTP_RESP_STATUS"
      ? typeof value === "bigint" || (typeof value === "number" && Number.isInteger(value)) ? grouped(value) : String(value)
      : column.semantic === "UPID" ? String(value) : "";
  return <><Cell value={value} column={column} />{exact !== "" && <small>{exact}{column.semantic === "DURATION_NS" ? " ns" : ""}</small>}</>;
}

function Block({ column, value }: { readonly column: Column; readonly value: Value | undefined }): ReactNode {
  const text = String(value ?? "");
  const object = parseObject(text);
  const isHeaders = object !== null && !Array.isArray(object) && Object.values(object).every((each) => typeof each !== "object");
  return (
    <section className={css.block}>
      <h3>
        {label(column)}
        <button type="button" aria-label={`copy ${label(column)}`} title="copy" onClick={() => void navigator.clipboard?.writeText(text)}><Icon name="copy" /></button>
      </h3>
      {isHeaders ? (
        <table className={css.headers}>
          <tbody>{Object.entries(object).map(([name, each]) => <tr key={name}><th scope="row">{name}</th><td>{String(each)}</td></tr>)}</tbody>
        </table>
      ) : object !== null ? <JsonTree value={object} /> : <pre className={css.text}>{text}</pre>}
    </section>
  );
}
