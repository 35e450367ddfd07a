// A script's arguments as chips: a click opens a small editor that fits the type and suggests values,
// names taken from what the page shows right now.
import { useState, type FormEvent, type ReactNode } from "react";
import type { LiveSession } from "../live/session";
import type { ScriptArg } from "../protocol";
import { entityText } from "../format/semantic";
import { Popover } from "./Popover";
import css from "./shell.module.css";

const TYPE_SEMANTIC: Readonly<Record<string, string>> = {
  PX_POD: "POD_NAME", PX_SERVICE: "SERVICE_NAME", PX_NAMESPACE: "NAMESPACE_NAME", PX_NODE: "NODE_NAME", PX_CONTAINER: "CONTAINER_NAME",
};
const TIMES = ["-1m", "-5m", "-15m", "-1h", "-6h", "-24h"];
const SUGGESTIONS_MAX = 8;

const isTime = (arg: ScriptArg): boolean => arg.name === "start_time";
const typeName = (arg: ScriptArg): string => arg.type.replace(/^PX_/, "").toLowerCase();

/** Names of the argument's kind that are in the picture, and namespaces out of `namespace/name`. */
function seen(session: LiveSession, semantic: string): string[] {
  const names = new Set<string>();
  for (const store of session.tables.values()) {
    for (const column of store.schema.columns) {
      const isOwn = column.semantic === semantic;
      const isOwner = semantic === "NAMESPACE_NAME" && (column.semantic === "POD_NAME" || column.semantic === "SERVICE_NAME");
      if (!isOwn && !isOwner) continue;
      for (const { row } of store.rows().slice(0, 2_000)) {
        const name = entityText(row[column.name] ?? "");
        const text = isOwner ? (name.includes("/") ? name.slice(0, name.indexOf("/")) : "") : name;
        if (text !== "") names.add(text);
      }
    }
  }
  return [...names].sort();
}

function suggestionsOf(arg: ScriptArg, session: LiveSession | null): readonly string[] {
  if (arg.validValues !== undefined && arg.validValues.length > 0) return arg.validValues;
  if (arg.type === "PX_BOOLEAN") return ["true", "false"];
  if (isTime(arg)) return TIMES;
  const semantic = TYPE_SEMANTIC[arg.type];
  return semantic === undefined || session === null ? [] : seen(session, semantic);
}

export interface ArgChipsProps {
  readonly args: readonly ScriptArg[];
  readonly values: Readonly<Record<string, string>>;
  readonly session: LiveSession | null;
  readonly onChange: (name: string, value: string | null) => void;
}

export function ArgChips({ args, values, session, onChange }: ArgChipsProps): ReactNode {
  return args.map((arg) => {
    const value = values[arg.name] ?? arg.default ?? "";
    const changed = values[arg.name] !== undefined && values[arg.name] !== (arg.default ?? "");
    const missing = arg.default === undefined && value === "";
    return (
      <Popover key={arg.name} label={`argument ${arg.name}`} buttonClass={css.chip} testId={`arg-${arg.name}`}
        buttonData={{ "data-changed": String(changed), "data-missing": String(missing) }}
        button={<><span>{arg.name.replaceAll("_", " ")}</span><b>{value === "" ? (missing ? "needed" : "any") : value}</b></>}>
        {(close) => <ArgEditor arg={arg} value={value} changed={changed} session={session} onChange={(next) => { onChange(arg.name, next); close(); }} />}
      </Popover>
    );
  });
}

export function ArgEditor({ arg, value, changed, session, onChange }: {
  readonly arg: ScriptArg; readonly value: string; readonly changed: boolean; readonly session: LiveSession | null; readonly onChange: (value: string | null) => void;
}): ReactNode {
  const [text, setText] = useState(value);
  const wrong = arg.type === "PX_INT64" && !/^-?\d+$/.test(text) ? "a whole number is needed" : arg.type === "PX_FLOAT64" && !Number.isFinite(Number(text || "x")) ? "a number is needed" : "";
  const all = suggestionsOf(arg, session);
  // As it opens all are shown; once typed, what fits.
  const fitting = text === value ? all : all.filter((each) => each.toLowerCase().includes(text.toLowerCase()));
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    if (wrong === "") onChange(text);
  };
  return (
    <form className={css.argEditor} onSubmit={submit}>
      <label>
        <span>{arg.name} <em>{typeName(arg)}</em></span>
        <input autoFocus spellCheck={false} autoComplete="off" value={text} onChange={(event) => setText(event.target.value)} onFocus={(event) => event.target.select()} />
      </label>
      {arg.description !== undefined && arg.description !== "" && <p>{arg.description}</p>}
      {wrong !== "" && <p className={css.argWrong}>{wrong}</p>}
      {fitting.length > 0 && (
        <div className={css.suggestions}>
          {fitting.slice(0, SUGGESTIONS_MAX).map((each) => <button key={each} type="button" aria-pressed={each === value} onClick={() => onChange(each)}>{each}</button>)}
        </div>
      )}
      <footer>
        <button type="submit" disabled={wrong !== ""}>Apply</button>
        {changed && arg.default !== undefined && <button type="button" onClick={() => onChange(null)}>Back to {arg.default === "" ? "any" : arg.default}</button>}
      </footer>
    </form>
  );
}
