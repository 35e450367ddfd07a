// A rule that is not there yet: written here, and what it would have done in the last hour.
import { useRef, useState, type ReactNode } from "react";
import { api, ApiError } from "../api";
import { dateClock, timeMs } from "../format/time";
import { threeDigits, toNumber } from "../format/numbers";
import { handOver } from "../widgets/copy";
import type { Diagnostic } from "../protocol";
import { StatusMark } from "../shell/icons";
import { labelsOf, previewText } from "./alerts";
import { asked, EMPTY, isReady, lineRange, placeOf, type Draft, type DraftPreview } from "./draft";
import css from "./pages.module.css";
import own from "./draft.module.css";

/** Events that are shown of each rule; of more only the number. */
const EVENTS_SHOWN = 8;

/** What was written stays while the reader looks at other pages. */
let kept: Draft = EMPTY;

type Said = { readonly made: DraftPreview } | { readonly findings: readonly Diagnostic[] } | { readonly error: string };

export function DraftRule(): ReactNode {
  const [draft, setDraft] = useState(kept);
  const [said, setSaid] = useState<Said | null>(null);
  const [isAsking, setAsking] = useState(false);
  const field = useRef<HTMLTextAreaElement>(null);
  const change = (part: Partial<Draft>): void => {
    kept = { ...draft, ...part };
    setDraft(kept);
    if (part.mode !== undefined && part.mode !== draft.mode) setSaid(null);
  };
  const ask = (): void => {
    setAsking(true);
    void api.previewDraft(asked(draft))
      .then((made) => setSaid({ made }), (error: unknown) => {
        const findings = error instanceof ApiError ? error.diagnostics : [];
        setSaid(findings.length > 0 ? { findings } : { error: error instanceof Error ? error.message : String(error) });
      })
      .finally(() => setAsking(false));
  };
  const show = ({ file, line }: Diagnostic): void => {
    if (file !== "script" && file !== "rules") return;
    field.current?.focus();
    field.current?.setSelectionRange(...lineRange(field.current.value, line));
  };
  const mode = (name: Draft["mode"], text: string): ReactNode => (
    <button type="button" role="tab" aria-selected={draft.mode === name} onClick={() => change({ mode: name })}>{text}</button>
  );
  const isScript = draft.mode === "script";
  return (
    <section className={css.block} data-testid="draft">
      <h2>Try a rule</h2>
      <div className={own.draft}>
        <div className={own.modes} role="tablist" aria-label="how the rule is written">{mode("script", "Script and condition")}{mode("rules", "Rule file")}</div>
        <textarea
          ref={field} className={own.text} rows={isScript ? 8 : 11} spellCheck={false} aria-label={isScript ? "script" : "rule file"}
          value={isScript ? draft.text : draft.rules} onChange={(event) => change(isScript ? { text: event.target.value } : { rules: event.target.value })}
        />
        <div className={own.line}>
          {isScript && <label>fires where <input className={own.when} spellCheck={false} aria-label="condition" value={draft.when} onChange={(event) => change({ when: event.target.value })} /></label>}
          {isScript && <label>for <input className={own.hold} spellCheck={false} aria-label="for" placeholder="0s" value={draft.hold} onChange={(event) => change({ hold: event.target.value })} /></label>}
          <button type="button" className={own.ask} disabled={isAsking || !isReady(draft)} onClick={ask}>{isAsking ? "Looking at the last hour …" : "What would it have done?"}</button>
        </div>
        <div data-testid="draft-said" aria-live="polite">{!isAsking && said !== null && <Answer said={said} isScript={isScript} show={show} />}</div>
      </div>
    </section>
  );
}

function Answer({ said, isScript, show }: { readonly said: Said; readonly isScript: boolean; readonly show: (finding: Diagnostic) => void }): ReactNode {
  if ("error" in said) return <p className={own.wrong}><StatusMark status="warn" />No preview: {said.error}.</p>;
  if ("findings" in said) {
    return (
      <ul className={own.findings}>
        {said.findings.map((finding, idx) => (
          <li key={idx} data-testid="draft-finding"><StatusMark status="bad" /><button type="button" className={own.place} onClick={() => show(finding)}>{placeOf(finding)}</button><span>{finding.message}</span></li>
        ))}
      </ul>
    );
  }
  const { rules, text } = said.made;
  return (
    <>
      {rules.map((rule, idx) => {
        const events = rule.events.filter((event) => event.what !== "pending").slice(0, EVENTS_SHOWN);
        return (
          <div key={idx} data-testid="draft-rule">
            <p className={own.told}><StatusMark status={toNumber(rule.fired) > 0 ? "bad" : "ok"} />{!isScript && <b>{rule.rule}</b>}{previewText(rule)}</p>
            {events.length > 0 && (
              <table className={own.events}>
                <tbody>{events.map((event, each) => (
                  <tr key={each}><td>{dateClock(timeMs(event.at))}</td><td>{event.what}</td><td>{labelsOf(event.labels).map(([name, value]) => `${name} = ${value}`).join(", ")}</td><td data-right="true">{threeDigits(toNumber(event.value))}</td></tr>
                ))}</tbody>
              </table>
            )}
          </div>
        );
      })}
      {isScript && (
        <details className={own.file}>
          <summary>as a rule file, to add</summary>
          <button type="button" className={own.place} onClick={() => { void handOver(text, "rule.yml"); }}>copy</button>
          <pre>{text}</pre>
        </details>
      )}
    </>
  );
}
