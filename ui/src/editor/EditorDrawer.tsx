// The script beside its answer. Checked while typing, run with Ctrl Enter. Loaded on demand: the
// editor is larger than the rest of the page.
import { useCallback, useEffect, useMemo, useRef, useState, type PointerEvent, type ReactNode } from "react";
import { api } from "../api";
import type { Diagnostic, Request, Vis } from "../protocol";
import { Icon, StatusMark } from "../shell/icons";
import { createEditor, type EditorHandle } from "./codemirror";
import { ALL_WIDGETS, chooseRun, displaysItself, functionsOf, requestOf } from "./scratch";
import css from "./editor.module.css";

const CHECK_AFTER_MS = 250;
const WIDTH_MIN_PX = 320;
const WIDTH_KEY = "weir.editor.width";

export interface EditorDrawerProps {
  readonly initial: string;
  readonly func: string;
  readonly vis: Vis | null;
  /** The arguments that are set. */
  readonly values: Readonly<Record<string, string>>;
  /** The page already shows this text (and not the bundle's script). */
  readonly isRunning: boolean;
  readonly onRun: (text: string, func: string) => void;
  readonly onClose: () => void;
}

type Check = { readonly state: "checking" } | { readonly state: "unreachable"; readonly why: string } | { readonly state: "done"; readonly diagnostics: readonly Diagnostic[] };

function useCheck(request: Request, editor: EditorHandle | null): Check {
  const [check, setCheck] = useState<Check>({ state: "checking" });
  const key = JSON.stringify(request);
  useEffect(() => {
    let over = false;
    const timer = setTimeout(() => {
      api.check(JSON.parse(key) as Request).then(
        ({ diagnostics }) => {
          if (over) return;
          setCheck({ state: "done", diagnostics });
          editor?.showDiagnostics(diagnostics);
        },
        (error: unknown) => { if (!over) setCheck({ state: "unreachable", why: (error as Error).message }); },
      );
    }, CHECK_AFTER_MS);
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [key, editor]);
  return check;
}

export default function EditorDrawer({ initial, func, vis, values, isRunning, onRun, onClose }: EditorDrawerProps): ReactNode {
  const host = useRef<HTMLDivElement>(null);
  const [editor, setEditor] = useState<EditorHandle | null>(null);
  const [text, setText] = useState(initial);
  const [wanted, setWanted] = useState(func === "" && !isRunning ? ALL_WIDGETS : func);
  const chosen = chooseRun(wanted, text, vis);
  const functions = useMemo(() => functionsOf(text), [text]);
  const check = useCheck(requestOf(text, chosen, vis, values), editor);
  const run = useCallback(() => onRun(text, chosen), [onRun, text, chosen]);
  const latestRun = useRef(run);
  latestRun.current = run;

  useEffect(() => {
    if (host.current === null) return;
    const created = createEditor(host.current, initial, { changed: setText, run: () => latestRun.current() });
    setEditor(created);
    return () => {
      created.destroy();
      setEditor(null);
    };
    // The text belongs to the editor once it is open; another script mounts another editor.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, []);

  const { width, grip } = useWidth();
  return (
    <section className={css.drawer} style={{ width }} aria-label="script editor" data-testid="editor">
      <header className={css.head}>
        <h2>PxL</h2>
        {functions.length > 0 && (
          <label className={css.func}>
            <span>runs</span>
            <select value={chosen} onChange={(event) => setWanted(event.target.value)} data-testid="editor-func">
              {(chosen === ALL_WIDGETS || chooseRun(ALL_WIDGETS, text, vis) === ALL_WIDGETS) && <option value={ALL_WIDGETS}>all widgets</option>}
              {(chosen === "" || displaysItself(text)) && <option value="">the whole script</option>}
              {functions.map(({ name }) => <option key={name} value={name}>{name}</option>)}
            </select>
          </label>
        )}
        <span className={css.gap} />
        <button type="button" className={css.run} onClick={run} data-testid="editor-run" title="run this text (Ctrl Enter)"><Icon name="play" />{isRunning ? "Run again" : "Run"}</button>
        <button type="button" className={css.close} aria-label="close editor" title="close" onClick={onClose}><Icon name="close" /></button>
      </header>
      <div className={css.code} ref={host} />
      <Problems check={check} onGo={(each) => editor?.goTo(each)} />
      <div className={css.grip} {...grip} role="separator" aria-orientation="vertical" />
    </section>
  );
}

function Problems({ check, onGo }: { readonly check: Check; readonly onGo: (diagnostic: Diagnostic) => void }): ReactNode {
  if (check.state === "checking") return <footer className={css.problems}><p className={css.quiet}>checking…</p></footer>;
  if (check.state === "unreachable") return <footer className={css.problems}><p className={css.quiet}><StatusMark status="warn" />not checked: {check.why}</p></footer>;
  if (check.diagnostics.length === 0) return <footer className={css.problems} data-testid="diagnostics" data-count="0"><p className={css.quiet}><StatusMark status="ok" />compiles · Ctrl Enter runs it</p></footer>;
  return (
    <footer className={css.problems} data-testid="diagnostics" data-count={check.diagnostics.length}>
      {check.diagnostics.map((each) => (
        <button key={`${each.line}:${each.column}:${each.code}:${each.message}`} type="button" onClick={() => onGo(each)}>
          <StatusMark status={each.severity === "error" ? "bad" : "warn"} />
          <span>
            {each.line > 0 && <b>{each.line}:{each.column}</b>} {each.message}
            {each.hint !== undefined && each.hint !== "" && <em>{each.hint}</em>}
          </span>
        </button>
      ))}
    </footer>
  );
}

function useWidth(): { width: number; grip: object } {
  const [width, setWidth] = useState(() => {
    const kept = Number(localStorage.getItem(WIDTH_KEY));
    return kept >= WIDTH_MIN_PX ? kept : Math.round(Math.max(WIDTH_MIN_PX, Math.min(560, window.innerWidth * 0.36)));
  });
  const from = useRef({ x: 0, width });
  const grip = {
    onPointerDown: (event: PointerEvent<HTMLDivElement>) => {
      event.currentTarget.setPointerCapture(event.pointerId);
      from.current = { x: event.clientX, width };
    },
    onPointerMove: (event: PointerEvent<HTMLDivElement>) => {
      if (event.buttons === 0) return;
      setWidth(Math.max(WIDTH_MIN_PX, Math.min(window.innerWidth * 0.7, from.current.width + event.clientX - from.current.x)));
    },
    onPointerUp: () => localStorage.setItem(WIDTH_KEY, String(Math.round(width))),
  };
  return { width, grip };
}
