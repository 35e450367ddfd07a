// The bundle: every script, what it is for, what it takes.
import { useState, type ReactNode } from "react";
import { scriptLink } from "../route";
import { useShell } from "../shell/context";
import { ListPage } from "./ListPage";
import css from "./pages.module.css";

export function ScriptsPage(): ReactNode {
  const { scripts } = useShell();
  const [filter, setFilter] = useState("");
  const needle = filter.trim().toLowerCase();
  const fitting = scripts.filter((script) => `${script.name} ${script.short ?? ""} ${script.long ?? ""}`.toLowerCase().includes(needle));
  return (
    <ListPage title="Scripts" note={`${scripts.length} in the bundle. Open one; its arguments are in the address, so the link can be shared.`} error={null}>
      <input className={css.filter} placeholder="filter scripts" aria-label="filter scripts" value={filter} onChange={(event) => setFilter(event.target.value)} />
      <div className={css.cards}>
        {fitting.map((script) => (
          <a key={script.name} className={css.card} href={scriptLink(script.name)}>
            <b>{script.name}</b>
            <span>{script.short}</span>
            <small>{(script.args ?? []).map((arg) => (arg.default === undefined ? `${arg.name} (needed)` : arg.name)).join(", ") || "no arguments"}</small>
          </a>
        ))}
        {fitting.length === 0 && <p className={css.none}>No script fits “{filter}”.</p>}
      </div>
    </ListPage>
  );
}
