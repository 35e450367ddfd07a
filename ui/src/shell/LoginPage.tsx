// What a browser without a login sees: how to get one.
import { useState, type FormEvent, type ReactNode } from "react";
import { Logo } from "./icons";
import css from "./shell.module.css";

/** People paste the whole link as often as the token alone. */
const tokenOf = (text: string): string => /token=([^&\s]+)/.exec(text)?.[1] ?? text.trim();

export function LoginPage({ note, onToken }: { readonly note: string; readonly onToken: (token: string) => Promise<void> }): ReactNode {
  const [text, setText] = useState("");
  const [busy, setBusy] = useState(false);
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    const token = tokenOf(text);
    if (token === "" || busy) return;
    setBusy(true);
    void onToken(token).finally(() => setBusy(false));
  };
  return (
    <main className={css.login} data-testid="login">
      <Logo />
      <h1>Open the login link</h1>
      <p>The login link is printed by <code>weir up</code> on stderr. It looks like this:</p>
      <pre>{`${location.origin}/#token=…`}</pre>
      <p>Open it in this browser, or paste it (or only the token) here.</p>
      <form onSubmit={submit}>
        <input type="password" autoFocus autoComplete="off" spellCheck={false} aria-label="login link or token" placeholder="login link or token" value={text} onChange={(event) => setText(event.target.value)} />
        <button type="submit" disabled={busy || tokenOf(text) === ""}>Log in</button>
      </form>
      {note !== "" && <p className={css.loginNote} role="alert" data-testid="login-note">{note}</p>}
    </main>
  );
}
