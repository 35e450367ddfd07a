// What every part of the page may need to know.
import { createContext, useContext } from "react";
import type { LiveSocket } from "../live/socket";
import type { DoctorReport, ScriptInfo } from "../protocol";

export interface Shell {
  readonly socket: LiveSocket;
  readonly scripts: readonly ScriptInfo[];
  readonly doctor: DoctorReport | null;
  readonly nodeCount: number | null;
}

export const ShellContext = createContext<Shell | null>(null);

export function useShell(): Shell {
  const shell = useContext(ShellContext);
  if (shell === null) throw new Error("used outside of the shell");
  return shell;
}

const ENTITY_SCRIPTS: Readonly<Record<string, readonly (readonly [script: string, arg: string])[]>> = {
  SERVICE_NAME: [["px/service", "service"], ["px/service_stats", "svc"]],
  POD_NAME: [["px/pod", "pod"]],
  NAMESPACE_NAME: [["px/namespace", "namespace"]],
  NODE_NAME: [["px/node", "node"]],
};

/** The script that shows an entity, if the bundle has one: a name that leads nowhere is no link. */
export function entityScript(shell: Shell, semantic: string, name: string): { script: string; args: Record<string, string> } | null {
  if (name === "" || name.includes(", ")) return null;
  for (const [script, arg] of ENTITY_SCRIPTS[semantic] ?? []) {
    const info = shell.scripts.find((each) => each.name === script);
    if (info?.args?.some((each) => each.name === arg) === true) return { script, args: { [arg]: name } };
  }
  return null;
}
