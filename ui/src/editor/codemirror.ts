// CodeMirror set up for PxL: Python's grammar, our colours, completion from the server's own lists of
// tables and functions.
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap, type CompletionContext, type CompletionResult } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { python } from "@codemirror/lang-python";
import { bracketMatching, HighlightStyle, indentOnInput, indentUnit, syntaxHighlighting } from "@codemirror/language";
import { lintGutter, lintKeymap, setDiagnostics, type Diagnostic as Mark } from "@codemirror/lint";
import { highlightSelectionMatches, searchKeymap } from "@codemirror/search";
import { EditorState, Prec } from "@codemirror/state";
import { drawSelection, EditorView, highlightActiveLine, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { api, type JsonObject } from "../api";
import type { Diagnostic, TableInfo } from "../protocol";
import { columnOffset } from "./positions";

export interface EditorHandle {
  showDiagnostics(diagnostics: readonly Diagnostic[]): void;
  goTo(diagnostic: Diagnostic): void;
  destroy(): void;
}

const colours = HighlightStyle.define([
  { tag: [tags.keyword, tags.operatorKeyword, tags.definitionKeyword, tags.moduleKeyword], color: "var(--hue-3)" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--ok)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--warn)" },
  { tag: tags.comment, color: "var(--ink-3)", fontStyle: "italic" },
  { tag: [tags.function(tags.variableName), tags.function(tags.propertyName), tags.function(tags.definition(tags.variableName))], color: "var(--accent)" },
]);

const look = EditorView.theme({
  "&": { height: "100%", backgroundColor: "var(--panel)", color: "var(--ink)", fontSize: "13px" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "20px" },
  ".cm-content": { padding: "8px 0", caretColor: "var(--accent)" },
  ".cm-gutters": { backgroundColor: "var(--panel)", color: "var(--ink-3)", border: "none" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "color-mix(in srgb, var(--hover) 60%, transparent)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: "var(--accent-soft)" },
  ".cm-cursor": { borderLeftColor: "var(--accent)", borderLeftWidth: "2px" },
  ".cm-tooltip": { backgroundColor: "var(--panel)", color: "var(--ink)", border: "1px solid var(--line-strong)", borderRadius: "8px", overflow: "hidden" },
  ".cm-tooltip-autocomplete > ul > li[aria-selected]": { backgroundColor: "var(--accent-soft)", color: "var(--ink)" },
  ".cm-diagnostic": { padding: "6px 12px", fontFamily: "var(--sans)" },
  ".cm-diagnosticSource": { color: "var(--ink-3)" },
  ".cm-panels": { backgroundColor: "var(--panel-2)", color: "var(--ink)" },
  ".cm-matchingBracket": { backgroundColor: "var(--accent-soft) !important", outline: "none" },
});

interface Words {
  readonly tables: readonly TableInfo[];
  readonly functions: readonly JsonObject[];
}

let words: Promise<Words> | null = null;
/** Asked once; a failure is asked again at the next completion. */
function loadWords(): Promise<Words> {
  words ??= Promise.all([api.schema(), api.funcs()]).then(([tables, functions]) => ({ tables, functions })).catch((error: unknown) => {
    words = null;
    throw error;
  });
  return words;
}

const textOf = (value: unknown): string => (typeof value === "string" ? value : "");

async function complete(context: CompletionContext): Promise<CompletionResult | null> {
  const member = context.matchBefore(/\b(\w+)\.\w*/);
  const quoted = context.matchBefore(/DataFrame\(\s*(table\s*=\s*)?['"][\w.]*/);
  if (member === null && quoted === null) return null;
  let known: Words;
  try {
    known = await loadWords();
  } catch {
    return null;
  }
  if (quoted !== null) {
    const from = quoted.from + Math.max(quoted.text.lastIndexOf("'"), quoted.text.lastIndexOf('"')) + 1;
    return { from, options: known.tables.map((table) => ({ label: table.name, type: "class", info: table.desc ?? "" })), validFor: /^[\w.]*$/ };
  }
  if (member === null) return null;
  const from = member.from + member.text.indexOf(".") + 1;
  if (member.text.startsWith("px.")) {
    const own = ["DataFrame", "display", "debug", "now"].map((label) => ({ label, type: "function" }));
    const names = known.functions.map((each) => ({ label: textOf(each["name"]), type: "function", info: textOf(each["desc"]) || textOf(each["doc"]) }));
    return { from, options: [...own, ...names.filter(({ label }) => label !== "" && !label.startsWith("_"))], validFor: /^\w*$/ };
  }
  const text = context.state.doc.toString();
  const used = known.tables.filter((table) => text.includes(table.name));
  const columns = new Map(used.flatMap((table) => table.columns.map((column) => [column.name, column] as const)));
  const methods = ["agg", "append", "ctx", "drop", "groupby", "head", "merge", "rolling", "stream"].map((label) => ({ label, type: "method" }));
  return { from, options: [...[...columns.values()].map((column) => ({ label: column.name, type: "property", detail: column.type, info: column.desc })), ...methods], validFor: /^\w*$/ };
}

function placed(state: EditorState, diagnostic: Diagnostic): { from: number; to: number } {
  const at = (line: number, column: number): number => {
    const found = state.doc.line(Math.max(1, Math.min(state.doc.lines, line)));
    return found.from + columnOffset(found.text, column);
  };
  if (diagnostic.line <= 0) return { from: 0, to: 0 };
  const from = at(diagnostic.line, diagnostic.column);
  return { from, to: Math.max(from, at(diagnostic.end_line, diagnostic.end_column)) };
}

export function createEditor(parent: HTMLElement, text: string, on: { changed: (text: string) => void; run: () => void }): EditorHandle {
  const run = Prec.highest(keymap.of([{ key: "Mod-Enter", run: () => { on.run(); return true; } }]));
  const view = new EditorView({
    parent,
    state: EditorState.create({
      doc: text,
      extensions: [
        run, lineNumbers(), lintGutter(), history(), drawSelection(), indentOnInput(), bracketMatching(), closeBrackets(), highlightActiveLine(),
        highlightSelectionMatches(), indentUnit.of("    "), python(), syntaxHighlighting(colours), autocompletion({ override: [complete] }),
        keymap.of([...closeBracketsKeymap, ...defaultKeymap, ...searchKeymap, ...historyKeymap, ...completionKeymap, ...lintKeymap, indentWithTab]),
        look, EditorView.lineWrapping, EditorView.contentAttributes.of({ "aria-label": "PxL text" }),
        EditorView.updateListener.of((update) => { if (update.docChanged) on.changed(update.state.doc.toString()); }),
      ],
    }),
  });
  view.focus();
  return {
    showDiagnostics(diagnostics) {
      const marks = diagnostics.map((each): Mark => ({
        ...placed(view.state, each), severity: each.severity, source: each.code,
        message: [each.message, each.label, each.hint].filter((part) => part !== undefined && part !== "").join("\n"),
      }));
      view.dispatch(setDiagnostics(view.state, marks.sort((a, b) => a.from - b.from)));
    },
    goTo(diagnostic) {
      const { from } = placed(view.state, diagnostic);
      view.dispatch({ selection: { anchor: from }, effects: EditorView.scrollIntoView(from, { y: "center" }) });
      view.focus();
    },
    destroy: () => view.destroy(),
  };
}
