// Calls to the API of the server that this page came from, wherever a proxy has put it.

/** What the API refuses, in its own words. */
export class Refused extends Error {
  constructor(readonly status: number, readonly code: string, detail: string) {
    super(detail);
  }
}

const page = new URL('.', document.baseURI);
/** Where the server begins: one above this page. */
export const root = new URL('..', page);

export const url = (path: string) => new URL(path.replace(/^\//, ''), root).href;
export const api = (path: string) => url(`api/v1/${path.replace(/^\//, '')}`);

/** Longest wait for an answer. */
const PATIENCE_MS = 20_000;

async function ask(method: string, path: string, body?: unknown): Promise<Response> {
  const headers: Record<string, string> = { Accept: 'application/json' };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  const sent: RequestInit = { method, headers, credentials: 'same-origin', signal: AbortSignal.timeout(PATIENCE_MS) };
  if (body !== undefined) sent.body = JSON.stringify(body);
  // What is asked for as the page closes is done all the same.
  if (method !== 'GET') sent.keepalive = true;
  const answer = await fetch(api(path), sent);
  if (answer.ok) return answer;
  const problem: { code?: string; detail?: string; title?: string } = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, problem.code ?? '', problem.detail ?? problem.title ?? `${answer.status} ${answer.statusText}`);
}

export async function get<T>(path: string): Promise<T> {
  return (await ask('GET', path)).json() as Promise<T>;
}

/** For what changes something; an empty answer is null. */
export async function change<T = unknown>(method: 'POST' | 'PUT' | 'PATCH' | 'DELETE', path: string, body?: unknown): Promise<T | null> {
  const answer = await ask(method, path, body);
  const said = await answer.text();
  return said && answer.headers.get('content-type')?.includes('json') ? (JSON.parse(said) as T) : null;
}

export const id = (part: string | number) => encodeURIComponent(String(part));
export const why = (error: unknown) => (error instanceof Error ? error.message : String(error));
