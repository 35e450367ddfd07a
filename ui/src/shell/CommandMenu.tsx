// Ctrl-K: every script and view by a few letters.
import { Command } from "cmdk";
import type { ReactNode } from "react";
import type { ScriptInfo } from "../protocol";
import { navigate, type Route } from "../route";
import { Icon } from "./icons";
import css from "./shell.module.css";

export function CommandMenu({ open, onOpen, scripts }: { readonly open: boolean; readonly onOpen: (open: boolean) => void; readonly scripts: readonly ScriptInfo[] }): ReactNode {
  const go = (route: Route): void => {
    onOpen(false);
    navigate(route);
  };
  return (
    <Command.Dialog open={open} onOpenChange={onOpen} label="Go to a script or view" loop overlayClassName={css.overlay ?? ""} contentClassName={css.command ?? ""}>
      <div className={css.commandInput}>
        <Icon name="search" />
        <Command.Input placeholder="Go to a script or view…" data-testid="command-input" />
      </div>
      <Command.List className={css.commandList}>
        <Command.Empty className={css.commandEmpty}>Nothing by that name.</Command.Empty>
        <Command.Group heading="Scripts">
          {scripts.map((script) => (
            <Command.Item key={script.name} value={script.name} keywords={[script.short ?? ""]} onSelect={() => go({ page: "script", script: script.name, args: {} })}>
              <b>{script.name}</b><span>{script.short}</span>
            </Command.Item>
          ))}
        </Command.Group>
        <Command.Group heading="Views">
          {(["alerts", "sinks", "queries", "nodes", "scripts"] as const).map((page) => (
            <Command.Item key={page} value={`view ${page}`} onSelect={() => go({ page })}><b>{page[0]?.toUpperCase()}{page.slice(1)}</b></Command.Item>
          ))}
        </Command.Group>
      </Command.List>
    </Command.Dialog>
  );
}
