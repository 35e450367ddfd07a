// The address as state: `#/s/px/service_map?start_time=-5m` is a link that others can open.
// `#/x` is the editor's own text, which lives in this browser only.
import { useSyncExternalStore } from "react";

export type Route =
  | { readonly page: "home" }
  | { readonly page: "script"; readonly script: string; readonly args: Readonly<Record<string, string>> }
  | { readonly page: "scratch" }
  | { readonly page: "alerts" | "sinks" | "queries" | "nodes" | "scripts" };

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export function parseRoute(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [head, ...rest] = path.split("/");
  if (head === "s" && rest.length > 0 && rest[0] !== "") {
    const args = Object.fromEntries(new URLSearchParams(query));
    return { page: "script", script: rest.map(decode).join("/"), args };
  }
  if (head === "x") return { page: "scratch" };
  if (head === "alerts" || head === "sinks" || head === "queries" || head === "nodes" || head === "scripts") return { page: head };
  return { page: "home" };
}

export function formatRoute(route: Route): string {
  switch (route.page) {
    case "home":
      return "#/";
    case "scratch":
      return "#/x";
    case "script": {
      const path = route.script.split("/").map(encodeURIComponent).join("/");
      // URLSearchParams' own text, but with the characters left readable that are harmless in a fragment.
      const query = new URLSearchParams(route.args).toString().replaceAll("%2F", "/").replaceAll("%3A", ":");
      return `#/s/${path}${query === "" ? "" : `?${query}`}`;
    }
    default:
      return `#/${route.page}`;
  }
}

export const scriptLink = (script: string, args: Readonly<Record<string, string>> = {}): string =>
  formatRoute({ page: "script", script, args });

export function navigate(route: Route, replace = false): void {
  const hash = formatRoute(route);
  if (hash === location.hash) return;
  if (replace) {
    history.replaceState(null, "", hash);
    window.dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = hash;
  }
}

let current = { hash: "", route: { page: "home" } as Route };
function snapshot(): Route {
  if (location.hash !== current.hash) current = { hash: location.hash, route: parseRoute(location.hash) };
  return current.route;
}
function subscribe(listener: () => void): () => void {
  window.addEventListener("hashchange", listener);
  return () => window.removeEventListener("hashchange", listener);
}
export const useRoute = (): Route => useSyncExternalStore(subscribe, snapshot);
