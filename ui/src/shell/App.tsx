// The page: login, the rail, and which view the address asks for.
import { useCallback, useEffect, useMemo, useState, type ReactNode } from "react";
import { api, ApiError } from "../api";
import { usePolled } from "../hooks";
import { LiveSocket } from "../live/socket";
import type { ScriptInfo } from "../protocol";
import { navigate, useRoute, type Route } from "../route";
import { LivePage } from "../live/LivePage";
import { AlertsPage } from "../pages/AlertsPage";
import { NodesPage } from "../pages/NodesPage";
import { QueriesPage } from "../pages/QueriesPage";
import { ScriptsPage } from "../pages/ScriptsPage";
import { SinksPage } from "../pages/SinksPage";
import { CommandMenu } from "./CommandMenu";
import { ShellContext, type Shell } from "./context";
import { Icon, Logo, type IconName } from "./icons";
import { LoginPage } from "./LoginPage";
import css from "./shell.module.css";

const LANDING = ["px/let_overview", "px/service_map"];
const SLOW_POLL_MS = 15_000;

type Access = { readonly kind: "checking" } | { readonly kind: "in" } | { readonly kind: "out"; readonly note: string } | { readonly kind: "unreachable" };

/** A login link's token, taken out of the address so that it is in no history or bookmark. */
function takeToken(): string | null {
  const match = /[#&]token=([^&]+)/.exec(location.hash);
  if (match === null) return null;
  history.replaceState(null, "", `${location.pathname}${location.search}#/`);
  return decodeURIComponent(match[1] ?? "");
}

interface Door {
  readonly access: Access;
  readonly scripts: readonly ScriptInfo[];
  readonly login: (token: string) => Promise<void>;
  readonly logout: () => Promise<void>;
  readonly enter: () => Promise<void>;
}

function useAccess(): Door {
  const [access, setAccess] = useState<Access>({ kind: "checking" });
  const [scripts, setScripts] = useState<readonly ScriptInfo[]>([]);
  const enter = useCallback(async (): Promise<void> => {
    try {
      setScripts(await api.scripts());
      setAccess({ kind: "in" });
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) setAccess((old) => (old.kind === "out" ? old : { kind: "out", note: "" }));
      else setAccess((old) => (old.kind === "in" ? old : { kind: "unreachable" }));
    }
  }, []);
  const login = useCallback(async (token: string): Promise<void> => {
    try {
      await api.login(token);
      setAccess({ kind: "checking" });
      await enter();
    } catch (error) {
      const refused = error instanceof ApiError && error.status !== 0;
      setAccess(refused ? { kind: "out", note: "That token was not accepted. Each data directory has its own: take the newest login link." } : { kind: "unreachable" });
    }
  }, [enter]);
  const logout = useCallback(async (): Promise<void> => {
    try {
      await api.logout();
    } catch (error) {
      // A session that is over already is what was wanted.
      if (!(error instanceof ApiError && error.status === 401)) {
        setAccess({ kind: "unreachable" });
        return;
      }
    }
    setAccess({ kind: "out", note: "You are logged out: this browser's session is over." });
  }, []);
  useEffect(() => {
    const start = (): boolean => {
      const token = takeToken();
      if (token !== null) void login(token);
      return token !== null;
    };
    if (!start()) void enter();
    // A login link pasted into an open page changes the fragment only.
    window.addEventListener("hashchange", start);
    return () => window.removeEventListener("hashchange", start);
  }, [login, enter]);
  useEffect(() => {
    if (access.kind !== "unreachable") return;
    const timer = setInterval(() => void enter(), 2_000);
    return () => clearInterval(timer);
  }, [access.kind, enter]);
  return { access, scripts, login, logout, enter };
}

export function App(): ReactNode {
  const { access, scripts, login, logout, enter } = useAccess();
  if (access.kind === "checking") return <div className={css.blank} />;
  if (access.kind === "out") return <LoginPage note={access.note} onToken={login} />;
  if (access.kind === "unreachable") {
    return (
      <main className={css.login} data-testid="unreachable">
        <Logo />
        <h1>The server does not answer</h1>
        <p>Start it with <code>weir up</code>. This page tries again every two seconds.</p>
      </main>
    );
  }
  return <Inside scripts={scripts} onRefused={enter} onLogout={logout} />;
}

interface InsideProps {
  readonly scripts: readonly ScriptInfo[];
  readonly onRefused: () => Promise<void>;
  readonly onLogout: () => Promise<void>;
}

function Inside({ scripts, onRefused, onLogout }: InsideProps): ReactNode {
  const socket = useMemo(() => new LiveSocket(), []);
  socket.onRefused = () => void onRefused();
  const { value: doctor } = usePolled(api.doctor, SLOW_POLL_MS);
  const { value: nodes } = usePolled(api.nodes, SLOW_POLL_MS);
  const route = useRoute();
  const [menuOpen, setMenuOpen] = useState(false);
  const [lastLive, setLastLive] = useState<Route | null>(null);
  const nodeCount = nodes === null || nodes.length === 0 ? null : nodes.length;
  const shell = useMemo<Shell>(() => ({ socket, scripts, doctor, nodeCount }), [socket, scripts, doctor, nodeCount]);

  useEffect(() => {
    if (route.page === "script" || route.page === "scratch") setLastLive(route);
    if (route.page !== "home") return;
    const landing = LANDING.find((name) => scripts.some((script) => script.name === name)) ?? scripts[0]?.name;
    navigate(landing === undefined ? { page: "scripts" } : { page: "script", script: landing, args: {} }, true);
  }, [route, scripts]);
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      setMenuOpen((open) => !open);
    };
    document.addEventListener("keydown", onKey, true);
    return () => document.removeEventListener("keydown", onKey, true);
  }, []);

  return (
    <ShellContext value={shell}>
      <div className={css.page}>
        <Rail route={route} live={lastLive ?? { page: "home" }} onLogout={onLogout} />
        {(route.page === "script" || route.page === "scratch") && <LivePage route={route} onPick={() => setMenuOpen(true)} />}
        {route.page === "alerts" && <AlertsPage />}
        {route.page === "sinks" && <SinksPage />}
        {route.page === "queries" && <QueriesPage />}
        {route.page === "nodes" && <NodesPage />}
        {route.page === "scripts" && <ScriptsPage />}
      </div>
      <CommandMenu open={menuOpen} onOpen={setMenuOpen} scripts={scripts} />
    </ShellContext>
  );
}

const VIEWS: readonly { readonly page: "alerts" | "sinks" | "queries" | "nodes" | "scripts"; readonly icon: IconName; readonly label: string }[] = [
  { page: "alerts", icon: "alerts", label: "Alerts" },
  { page: "sinks", icon: "sinks", label: "Sinks" },
  { page: "queries", icon: "queries", label: "Queries" },
  { page: "nodes", icon: "nodes", label: "Nodes" },
  { page: "scripts", icon: "scripts", label: "Scripts" },
];

function Rail({ route, live, onLogout }: { readonly route: Route; readonly live: Route; readonly onLogout: () => Promise<void> }): ReactNode {
  const isLive = route.page === "script" || route.page === "scratch" || route.page === "home";
  const go = (target: Route) => (event: React.MouseEvent): void => {
    event.preventDefault();
    navigate(target);
  };
  return (
    <nav className={css.rail} aria-label="views">
      <span className={css.logo}><Logo /></span>
      <a href="#/" aria-current={isLive ? "page" : undefined} onClick={go(live)}><Icon name="live" /><span>Live</span></a>
      {VIEWS.map(({ page, icon, label }) => (
        <a key={page} href={`#/${page}`} aria-current={route.page === page ? "page" : undefined} onClick={go({ page })}><Icon name={icon} /><span>{label}</span></a>
      ))}
      <button type="button" onClick={() => void onLogout()}><Icon name="out" /><span>Log out</span></button>
    </nav>
  );
}
