// The HTTP side: login, scripts, schema, checks. Every failure is an ApiError with the server's own
// words; 401 is told apart because the page then shows how to log in.
import { parseLossless } from "./lossless";
import type { RulePreview } from "./messages";
import type { DraftPreview } from "./pages/draft";
import type { Diagnostic, DoctorReport, Request, ScriptInfo, ScriptText, TableInfo } from "./protocol";

export class ApiError extends Error {
  constructor(readonly status: number, readonly code: string, message: string, readonly diagnostics: readonly Diagnostic[] = []) {
    super(message);
  }
}

export function apiUrl(path: string): URL {
  return new URL(`api/v1/${path}`, document.baseURI.split("#")[0]);
}

async function call(method: string, path: string, body?: unknown): Promise<unknown> {
  const init: RequestInit = { method, credentials: "same-origin", headers: { Accept: "application/json" } };
  if (body !== undefined) {
    init.headers = { Accept: "application/json", "Content-Type": "application/json" };
    init.body = JSON.stringify(body);
  }
  let response: Response;
  try {
    response = await fetch(apiUrl(path), init);
  } catch {
    throw new ApiError(0, "unreachable", "the server does not answer");
  }
  const text = await response.text();
  let json: unknown = null;
  try {
    json = text === "" ? null : parseLossless(text);
  } catch {
    json = null;
  }
  if (response.ok) return json;
  const error = (json as { error?: { code?: string; message?: string; diagnostics?: Diagnostic[] } } | null)?.error;
  throw new ApiError(
    response.status, error?.code ?? `http_${response.status}`, error?.message ?? `the server answered ${response.status}`,
    error?.diagnostics ?? [],
  );
}

/** A list comes under its name. */
function list<T>(json: unknown, name: string): T[] {
  const inner = (json as Record<string, unknown> | null)?.[name];
  return Array.isArray(inner) ? (inner as T[]) : [];
}

export type JsonObject = Readonly<Record<string, unknown>>;

/** An operator of a running query; operators are named by their ids in each other's inputs. */
export interface RunningOperator {
  readonly id: string;
  readonly part: "query" | "feed" | "node";
  /** Null: streams side by side, no operator of its own. */
  readonly kind: string | null;
  readonly text: string;
  readonly inputs: readonly string[];
  readonly rows_in_per_s: unknown;
  readonly rows_out_per_s: unknown;
  readonly cpu_ns_per_s: unknown;
  readonly ns_per_row: unknown;
  readonly held_bytes: unknown;
  readonly readers?: readonly unknown[];
}

export interface RunningQuery {
  readonly over_ns: unknown;
  readonly operators: readonly RunningOperator[];
}

export const api = {
  logout: (): Promise<unknown> => call("POST", "logout", {}),
  login: (token: string): Promise<unknown> => call("POST", "login", { token }),
  scripts: async (): Promise<ScriptInfo[]> => list(await call("GET", "scripts"), "scripts"),
  script: async (name: string): Promise<ScriptText> => (await call("GET", `scripts/${name}`)) as ScriptText,
  schema: async (): Promise<TableInfo[]> => list(await call("GET", "schema"), "tables"),
  funcs: async (): Promise<JsonObject[]> => list(await call("GET", "funcs"), "functions"),
  nodes: async (): Promise<JsonObject[]> => list(await call("GET", "nodes"), "nodes"),
  queries: async (): Promise<JsonObject[]> => list(await call("GET", "queries"), "queries"),
  /** One running query, operator by operator, down to the scans on nodes. */
  query: async (number: string): Promise<RunningQuery> => (await call("GET", `queries/${number}`)) as RunningQuery,
  /** What a rule would have done in the last hour. */
  preview: async (rule: unknown): Promise<RulePreview> => (await call("POST", "alerts/preview", { rule: Number(rule) })) as RulePreview,
  /** The same of rules that are not there yet; what is wrong with them are the error's diagnostics. */
  previewDraft: async (draft: Readonly<Record<string, string>>): Promise<DraftPreview> => (await call("POST", "alerts/preview", draft)) as DraftPreview,
  stats: async (): Promise<JsonObject> => ((await call("GET", "stats")) ?? {}) as JsonObject,
  doctor: async (): Promise<DoctorReport> => (await call("GET", "doctor")) as DoctorReport,
  check: async (request: Request): Promise<{ ok: boolean; diagnostics: Diagnostic[] }> =>
    (await call("POST", "check", request)) as { ok: boolean; diagnostics: Diagnostic[] },
};
