import { BACKGROUND, isBackground } from './background';
import { suspectOutage } from './outage';
import { bearer, refreshable, unauthenticated } from './session';
import { learnClock } from './time';
import type { HealthSummary, Meant } from './types';

/** What an error's body may have beside its code and its sentence. */
export interface ErrorDetail {
  /** of unknown_filter_value: the query parameter, and what its value may mean */
  parameter?: string;
  suggestions?: Meant[];
  /** of an outage, answered by the route of health: the parts that are away */
  health?: HealthSummary;
}

/** A call that did not succeed. status 0: the server was not reached. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly auditId: string | null = null,
    /** how long to wait before trying again, in seconds; 0 when not said */
    readonly retryAfter = 0,
    readonly detail: ErrorDetail = {},
  ) {
    super(message);
  }
}

/** Of changes. */
export type Method = 'POST' | 'PUT' | 'PATCH' | 'DELETE';

export interface CallOptions {
  method?: 'GET' | Method;
  query?: URLSearchParams | Record<string, string>;
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
  /** hears the id under which the log has the call, when the call succeeded */
  onAuditId?: (id: string | null) => void;
  /** the console's own call, by which it stays up to date; else the signal says so */
  background?: boolean;
  /** milliseconds until the call is given up; 0 waits for ever */
  timeout?: number;
}

/** A call that has no answer after this many milliseconds may be held up by an outage: a part that hangs says nothing. */
const SLOW = 3000;

/** Makes a call and hands back the response, which is 2xx; throws an ApiError otherwise. */
export async function open(path: string, options: CallOptions = {}): Promise<Response> {
  const query = new URLSearchParams(options.query).toString();
  const url = query ? `${path}?${query}` : path;
  const { signal, done } = bounded(options.signal, options.timeout ?? 30_000);
  const slow = setInterval(suspectOutage, SLOW);
  try {
    let { token, generation } = await bearer();
    if (token === null && !refreshable()) throw new ApiError(401, 'unauthenticated', 'You are not signed in.');
    let answer = await send(url, token, options, signal);
    // A session token lives for a minute; one that has just run out is no reason to sign in again. 401 comes
    // before any effect, so repeating is safe.
    if (answer.status === 401 && refreshable()) {
      ({ token, generation } = await bearer(true));
      answer = await send(url, token, options, signal);
    }
    learnClock(answer.headers.get('Date'));
    if (answer.ok) {
      options.onAuditId?.(answer.headers.get('Argus-Audit-Id'));
      return answer;
    }
    const error = await errorOf(answer);
    if (answer.status === 503) suspectOutage();
    if (answer.status === 401) unauthenticated(generation, error.message);
    throw error;
  } catch (cause) {
    if (cause instanceof ApiError) throw cause;
    if (options.signal?.aborted) throw new DOMException('aborted', 'AbortError');
    if (signal.aborted) throw new ApiError(0, 'timeout', 'The server did not answer in time.');
    throw new ApiError(0, 'offline', 'The server could not be reached.');
  } finally {
    clearInterval(slow);
    done();
  }
}

/** Makes a call and reads the JSON of its answer; the timeout holds until the last byte. */
export async function call<T>(path: string, options: CallOptions = {}): Promise<T> {
  const { signal, done } = bounded(options.signal, options.timeout ?? 30_000);
  try {
    const background = options.background ?? isBackground(options.signal);
    const answer = await open(path, { ...options, signal, background, timeout: 0 });
    return (await answer.json()) as T;
  } catch (cause) {
    if (cause instanceof ApiError) throw cause;
    if (options.signal?.aborted) throw new DOMException('aborted', 'AbortError');
    if (signal.aborted) throw new ApiError(0, 'timeout', 'The server did not answer in time.');
    throw new ApiError(0, 'offline', 'The answer was cut off.');
  } finally {
    done();
  }
}

/** Makes a change. Repeating it with the same key after a lost answer cannot do it twice. */
export function change<T>(path: string, body: unknown, key: string, method: Method, onAuditId: (id: string | null) => void): Promise<T> {
  return call<T>(path, { method, body, headers: { 'Idempotency-Key': key }, onAuditId });
}

function send(url: string, token: string | null, options: CallOptions, signal: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = { Accept: 'application/json', ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (options.background ?? isBackground(options.signal)) headers['Argus-Agent'] = BACKGROUND;
  const init: RequestInit = { method: options.method ?? 'GET', headers, cache: 'no-store', credentials: 'omit', signal, redirect: 'error' };
  if (options.body !== undefined) {
    headers['Content-Type'] = 'application/json';
    init.body = JSON.stringify(options.body);
  }
  return fetch(url, init);
}

async function errorOf(answer: Response): Promise<ApiError> {
  const body = (await answer.json().catch(() => null)) as {
    error?: { code?: string; message?: string; audit_id?: string | null; parameter?: string; suggestions?: Meant[] };
    health?: HealthSummary;
  } | null;
  const { parameter, suggestions } = body?.error ?? {};
  const wait = Number(answer.headers.get('Retry-After') ?? '0');
  return new ApiError(
    answer.status,
    body?.error?.code ?? 'unknown',
    body?.error?.message || `The server answered ${answer.status}.`,
    body?.error?.audit_id ?? answer.headers.get('Argus-Audit-Id'),
    Number.isFinite(wait) ? Math.max(0, wait) : 0,
    { ...(parameter && { parameter, suggestions: suggestions ?? [] }), ...(body?.health && { health: body.health }) },
  );
}

/** A signal that fires with the caller's, or when the time until the answer's headers is over. */
function bounded(caller: AbortSignal | undefined, timeout: number): { signal: AbortSignal; done: () => void } {
  const control = new AbortController();
  const abort = () => control.abort();
  if (caller?.aborted) abort();
  caller?.addEventListener('abort', abort);
  const timer = timeout > 0 ? setTimeout(abort, timeout) : undefined;
  return {
    signal: control.signal,
    // The caller's signal stays connected: it also ends the reading of the body.
    done: () => clearTimeout(timer),
  };
}

export function isAbort(cause: unknown): boolean {
  return cause instanceof DOMException && cause.name === 'AbortError';
}

export function asApiError(cause: unknown): ApiError {
  if (cause instanceof ApiError) return cause;
  return new ApiError(0, 'console', cause instanceof Error ? cause.message : String(cause));
}
