// The live view: one script (or the editor's text), its arguments, and its widgets as they change.
import { lazy, Suspense, useCallback, useEffect, useMemo, useState, useSyncExternalStore, type ReactNode } from "react";
import { api, ApiError } from "../api";
import { DetailsPanel } from "../details/DetailsPanel";
import { ALL_WIDGETS, requestOf, setScratch, useScratch, visOfFunction, type Scratch } from "../editor/scratch";
import { clock, timeMs } from "../format/time";
import type { Request, ScriptArg, ScriptText, Vis } from "../protocol";
import { navigate, scriptLink, type Route } from "../route";
import { ArgChips, ArgEditor } from "../shell/ArgChips";
import { useShell } from "../shell/context";
import { Icon } from "../shell/icons";
import { TruthBadge } from "../shell/TruthBadge";
import type { Selection } from "../widgets/Widget";
import { Canvas } from "./Canvas";
import type { LiveSession, Status } from "./session";
import { useSession } from "./useSession";
import css from "./live.module.css";

const EditorDrawer = lazy(() => import("../editor/EditorDrawer"));

type LiveRoute = Extract<Route, { page: "script" | "scratch" }>;

/** The script's text and vis; the page begins without them, the widgets come with the answer. */
function useScriptText(name: string): { script: ScriptText | null; missing: string } {
  const [state, setState] = useState<{ name: string; script: ScriptText | null; missing: string }>({ name: "", script: null, missing: "" });
  useEffect(() => {
    if (name === "") return;
    let over = false;
    api.script(name).then(
      (script) => { if (!over) setState({ name, script, missing: "" }); },
      (error: unknown) => { if (!over) setState({ name, script: null, missing: error instanceof ApiError && error.status === 404 ? "unknown" : "unreadable" }); },
    );
    return () => { over = true; };
  }, [name]);
  return state.name === name ? state : { script: null, missing: "" };
}

function argsOf(vis: Vis | null | undefined, listed: readonly ScriptArg[] | undefined): readonly ScriptArg[] {
  if (vis?.variables === undefined) return listed ?? [];
  return vis.variables.map((variable) => ({
    name: variable.name, type: variable.type, description: variable.description ?? "",
    ...(variable.defaultValue !== undefined ? { default: variable.defaultValue } : {}),
    ...(variable.validValues !== undefined ? { validValues: variable.validValues } : {}),
  }));
}

interface Plan {
  readonly title: string;
  readonly short: string;
  readonly family: string;
  readonly request: Request | null;
  readonly args: readonly ScriptArg[];
  readonly values: Readonly<Record<string, string>>;
  readonly needed: readonly ScriptArg[];
  readonly text: string | null;
  readonly vis: Vis | null;
  readonly scratch: Scratch | null;
  readonly missing: string;
}

function usePlan(route: LiveRoute): Plan {
  const { scripts } = useShell();
  const scratch = useScratch();
  const name = route.page === "script" ? route.script : "";
  const { script, missing } = useScriptText(name);
  const listed = scripts.find((each) => each.name === name);
  const args = useMemo(() => argsOf(script?.vis, listed?.args), [script, listed]);
  return useMemo((): Plan => {
    if (route.page === "scratch") {
      const runsAll = scratch?.func === ALL_WIDGETS;
      return {
        title: "Edited script", short: scratch === null || scratch.from === "" ? "" : `from ${scratch.from}`, family: "scratch",
        request: scratch === null ? null : requestOf(scratch.text, scratch.func, scratch.vis, scratch.args),
        args: runsAll ? argsOf(scratch.vis, undefined) : [], values: scratch?.args ?? {}, needed: [],
        text: scratch?.text ?? "", vis: scratch?.vis ?? null, scratch, missing: "",
      };
    }
    const values = route.args;
    const needed = args.filter((arg) => arg.default === undefined && (values[arg.name] ?? "") === "");
    // A script the list does not know is asked of the server all the same: its answer is the error to show.
    const known = listed !== undefined || script !== null || missing !== "";
    const request = !known || needed.length > 0 ? null : { script: route.script, args: values };
    return {
      title: route.script, short: script?.short ?? listed?.short ?? "", family: route.script, request, args, values, needed,
      text: script?.pxl ?? null, vis: script?.vis ?? null, scratch: null, missing,
    };
  }, [route, scratch, script, listed, args, missing]);
}

/** Arguments that say which time or how many, not of whom. */
const NO_NAME = /^(start_time|end_time|start|end|window|limit|max_num_records|num_.*|.*_limit|.*_count)$/;

/** The arguments that narrow the answer to something by name, as people read them. */
function narrowedTo({ args, values }: Plan): string {
  const named = args.filter(({ name, default: usual }) => {
    const value = values[name] ?? "";
    return value !== "" && value !== usual && !NO_NAME.test(name);
  });
  return named.map(({ name }) => `${name.replaceAll("_", " ")} “${values[name] ?? ""}”`).join(", ");
}

export function LivePage({ route, onPick }: { readonly route: LiveRoute; readonly onPick: () => void }): ReactNode {
  const plan = usePlan(route);
  const [attempt, setAttempt] = useState(0);
  const { session, status, going } = useSession(plan.request, plan.family, attempt);
  const [editing, setEditing] = useState(route.page === "scratch");
  const [selection, setSelection] = useState<Selection | null>(null);
  useEffect(() => setSelection(null), [plan.family]);
  useEffect(() => { document.title = `${plan.title} · Weir`; }, [plan.title]);
  useEffect(() => { if (route.page === "scratch") setEditing(true); }, [route.page]);

  const setArg = (name: string, value: string | null): void => {
    const { [name]: _, ...others } = plan.values;
    const args = value === null ? others : { ...others, [name]: value };
    if (route.page === "script") navigate({ ...route, args });
    else if (plan.scratch !== null) setScratch({ ...plan.scratch, args });
  };
  const run = (text: string, func: string): void => {
    setScratch({ text, func, args: plan.values, from: plan.scratch?.from ?? plan.title, vis: plan.vis });
    setAttempt(attempt + 1);
    navigate({ page: "scratch" });
  };
  const vis = plan.scratch === null || plan.scratch.func === ALL_WIDGETS ? plan.vis : visOfFunction(plan.vis, plan.scratch.func, status?.tables ?? []);
  const store = selection === null ? undefined : session?.tables.get(selection.table);
  const showPxl = useCallback(() => setEditing(true), []);
  const closeDetails = useCallback(() => setSelection(null), []);

  return (
    <div className={css.main}>
      <header className={css.top}>
        <button type="button" className={css.picker} onClick={onPick} data-testid="script-picker" title="go to another script (Ctrl K)">
          <strong>{plan.title}</strong><Icon name="chevron" /><kbd>Ctrl K</kbd>
        </button>
        <span className={css.gap} />
        {session !== null && status !== null && <Pause session={session} status={status} />}
        <button type="button" className={css.action} aria-pressed={editing} onClick={() => setEditing(!editing)} data-testid="editor-toggle" title="show and edit the script">
          <Icon name="code" /><span>PxL</span>
        </button>
        {session !== null && status !== null && <TruthBadge session={session} status={status} />}
      </header>
      <div className={css.sub}>
        {plan.short !== "" && <span className={css.short}>{plan.short}</span>}
        <ArgChips args={plan.args} values={plan.values} session={session} onChange={setArg} />
      </div>
      {status !== null && <Notice status={status} again={() => setAttempt(attempt + 1)} />}
      <div className={css.work}>
        {editing && plan.text !== null && (
          <Suspense fallback={<div className={css.editorWait} />}>
            <EditorDrawer key={plan.scratch === null ? plan.title : "scratch"} initial={plan.text} func={plan.scratch?.func ?? ""} vis={plan.vis} values={plan.values}
              isRunning={plan.scratch !== null} onRun={run} onClose={() => setEditing(false)} />
          </Suspense>
        )}
        <div className={css.stage} data-stale={status?.phase === "stale" || going} data-testid="stage" data-phase={status?.phase ?? "none"}>
          {plan.needed.length > 0 && <Needed plan={plan} session={session} onChange={setArg} />}
          {plan.request === null && plan.needed.length === 0 && route.page === "scratch" && (
            <p className={css.message}>Nothing has been written here yet. Open a script and press “PxL”, or write one and run it with Ctrl Enter.</p>
          )}
          {session !== null && status !== null && (
            status.phase === "failed"
              ? <Failed status={status} onEdit={showPxl} canEdit={plan.text !== null && plan.text !== ""} />
              : <Canvas session={session} status={status} vis={vis} text={plan.text ?? ""} narrowedTo={narrowedTo(plan)} selection={selection} onSelect={setSelection} onShowPxl={showPxl} />
          )}
        </div>
        {selection !== null && store !== undefined && <DetailsPanel store={store} selection={selection} onSelect={setSelection} onClose={closeDetails} />}
      </div>
    </div>
  );
}

function Pause({ session, status }: { readonly session: LiveSession; readonly status: Status }): ReactNode {
  const waits = status.paused && status.waitingRows > 0 ? `${status.waitingRows.toLocaleString("en-US")} ${status.waitingRows === 1 ? "change waits" : "changes wait"}` : "Paused";
  return (
    <button type="button" className={css.action} aria-pressed={status.paused} onClick={() => session.setPaused(!status.paused)} data-testid="pause"
      title={status.paused ? "go on; nothing is missed" : "hold the picture; the subscription goes on"}>
      <Icon name={status.paused ? "play" : "pause"} /><span>{status.paused ? waits : "Pause"}</span>
    </button>
  );
}

/** Below the bar when the picture is not being kept: why, and what happens next. */
function Notice({ status, again }: { readonly status: Status; readonly again: () => void }): ReactNode {
  const { socket } = useShell();
  const connection = useSyncExternalStore(socket.subscribe, socket.getState);
  const asOf = status.shown === null ? "" : ` The picture is of ${clock(timeMs(status.shown.complete_to))}.`;
  if (connection.kind !== "open" && connection.attempt > 0) {
    return (
      <div className={css.notice} role="status" data-testid="reconnecting">
        <i className={css.spinner} aria-hidden="true" />Reconnecting…{asOf}
        <button type="button" onClick={() => socket.retryNow()}>Try now</button>
      </div>
    );
  }
  if (status.phase === "ended") {
    return <div className={css.notice} role="status">The server ended this view{status.endReason !== "" && `: ${status.endReason}`}.{asOf}<button type="button" onClick={again}>Run again</button></div>;
  }
  return null;
}

function Needed({ plan, session, onChange }: { readonly plan: Plan; readonly session: LiveSession | null; readonly onChange: (name: string, value: string | null) => void }): ReactNode {
  const first = plan.needed[0];
  if (first === undefined) return null;
  return (
    <div className={css.needed} data-testid="needed">
      <h2>{plan.title} needs to know: {plan.needed.map((arg) => arg.name).join(", ")}</h2>
      <ArgEditor key={first.name} arg={first} value="" changed={false} session={session} onChange={(value) => onChange(first.name, value)} />
    </div>
  );
}

function Failed({ status, onEdit, canEdit }: { readonly status: Status; readonly onEdit: () => void; readonly canEdit: boolean }): ReactNode {
  const { error } = status;
  const { scripts } = useShell();
  if (error === null) return null;
  return (
    <div className={css.failed} role="alert" data-testid="failed">
      <h2>{error.message}</h2>
      <code>{error.code}</code>
      {error.diagnostics?.map((each) => (
        <p key={`${each.line}:${each.column}:${each.code}`}>
          {each.line > 0 && <b>{each.file !== undefined && each.file !== "" ? `${each.file}:` : "line "}{each.line}:{each.column} </b>}{each.message}
          {each.hint !== undefined && each.hint !== "" && <em>{each.hint}</em>}
        </p>
      ))}
      <p>
        {canEdit && <button type="button" onClick={onEdit}>Open in the editor</button>}
        {scripts[0] !== undefined && <a href={scriptLink(scripts.find((each) => each.name === "px/let_overview")?.name ?? scripts[0].name)}>Back to the overview</a>}
      </p>
    </div>
  );
}
