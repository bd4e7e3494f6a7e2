// Who is signed in. Ways in: Clerk (production), the local issuer that plays Clerk (make dev), any other OpenID issuer
// that the server names, and a pasted token. A credential lives in this tab's memory. Only an issuer's session is kept
// across a reload, in the tab's session storage, as Clerk keeps its own.

import * as clerk from './clerk';
import type { Credential } from './credential';
import * as local from './local';
import * as oidc from './oidc';
import { suspectOutage } from './outage';
import { Store } from './store';
import type { Config, Issuer, Operator } from './types';

export type State =
  | { step: 'starting' }
  /** again: it worked before, so the page behind keeps what it shows. pasted: that was a pasted token. */
  | { step: 'signed-out'; reason: string; again: boolean; pasted?: boolean }
  | { step: 'failed'; reason: string }
  | { step: 'signed-in'; me: Operator };

export const session = new Store<State>({ step: 'starting' });

let config: Config;
let credential: Credential | null = null;
/** Rises whenever the credential changes, so that answers of an older one are told apart. */
let generation = 0;

const PLACE = 'argus.place';

export function consoleConfig(): Config {
  return config;
}

export function currentCredential(): Credential | null {
  return credential;
}

/** Reads the configuration and takes up a session if there is one. */
export async function start(): Promise<void> {
  try {
    const answer = await fetch('/console-config.json', { cache: 'no-store', credentials: 'omit' });
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    config = (await answer.json()) as Config;
  } catch (cause) {
    session.set({ step: 'failed', reason: `The console could not reach its server (${message(cause)}).` });
    setTimeout(() => void start(), 5000);
    return;
  }
  try {
    credential = await oidc.resume(config);
  } catch (cause) {
    returnToPlace();
    signedOut(message(cause));
    return;
  }
  try {
    if (!credential && config.auth === 'clerk' && config.clerk_publishable_key !== null) credential = await clerk.resume(config);
    if (!credential && config.auth === 'local') credential = local.resume(config);
  } catch (cause) {
    signedOut(`Clerk could not be reached (${message(cause)}). A token still works.`);
    return;
  }
  returnToPlace();
  if (credential) await enter();
  else session.set({ step: 'signed-out', reason: '', again: false });
}

/** Goes to the sign-in page of Clerk, or of an issuer; the browser comes back to the present place. */
export async function signIn(issuer?: Issuer): Promise<void> {
  sessionStorage.setItem(PLACE, location.hash);
  if (issuer) {
    await oidc.signIn(issuer).catch((cause) => signedOut(`${issuer.name} could not be reached (${message(cause)}).`));
    return;
  }
  try {
    if (config.auth === 'clerk') await clerk.signIn(config);
    else local.signIn(config);
  } catch (cause) {
    signedOut(`Clerk could not be reached (${message(cause)}). A token still works.`);
  }
}

/** Signs in with a pasted token. Resolves to a sentence when it was not taken. */
export async function useToken(text: string): Promise<string | null> {
  const token = text.trim();
  if (!/^[\x21-\x7e]{8,4096}$/.test(token)) return 'Invalid token: it has spaces or unusual characters, or is too short.';
  const before = credential;
  credential = { kind: 'token', token: async () => token, signOut: async () => undefined };
  generation++;
  const problem = await whoAmI();
  if (problem === null) return null;
  credential = before;
  generation++;
  return problem;
}

export async function signOut(): Promise<void> {
  const leaving = credential;
  credential = null;
  wasIn = false;
  generation++;
  sessionStorage.removeItem(PLACE);
  session.set({ step: 'signed-out', reason: 'You are signed out.', again: false });
  await leaving?.signOut().catch(() => undefined);
}

/** The token for a call, and the generation it belongs to. */
export async function bearer(fresh = false): Promise<{ token: string | null; generation: number }> {
  const of = generation;
  if (!credential) return { token: null, generation: of };
  return { token: await credential.token(fresh), generation: of };
}

/** Whether another token may be tried after a 401: a pasted one stays what it is. */
export function refreshable(): boolean {
  return credential !== null && credential.kind !== 'token';
}

/** A call made with a credential of this generation was answered 401. */
export function unauthenticated(of: number, reason: string): void {
  if (of !== generation || !credential) return;
  const kind = credential.kind;
  credential = null;
  generation++;
  if (kind === 'local') local.forget();
  if (kind === 'oidc') oidc.forget();
  signedOut(kind === 'token' ? `The token is not accepted any more. ${reason}` : 'Your session has ended. Sign in to go on where you were.', kind === 'token');
}

function signedOut(reason: string, pasted = false): void {
  session.set({ step: 'signed-out', reason, again: wasIn, pasted });
}

let wasIn = false;

async function enter(): Promise<void> {
  const problem = await whoAmI();
  if (problem === null) return;
  if (problem.startsWith('401')) {
    if (credential?.kind === 'local') local.forget();
    if (credential?.kind === 'oidc') oidc.forget();
    credential = null;
    generation++;
    session.set({ step: 'signed-out', reason: 'Your session has ended.', again: false });
    return;
  }
  session.set({ step: 'failed', reason: problem });
  setTimeout(() => {
    if (session.get().step === 'failed') void enter();
  }, 5000);
}

/** Asks the server who the credential belongs to. A sentence when that failed. */
async function whoAmI(): Promise<string | null> {
  let answer: Response;
  try {
    let { token } = await bearer();
    answer = await fetchMe(token);
    if (answer.status === 401 && refreshable()) {
      ({ token } = await bearer(true));
      answer = await fetchMe(token);
    }
    if (answer.ok) {
      const me = (await answer.json()) as Operator;
      wasIn = true;
      session.set({ step: 'signed-in', me });
      return null;
    }
    if (answer.status === 503) suspectOutage();
    const body = (await answer.json().catch(() => null)) as { error?: { message?: string } } | null;
    const text = body?.error?.message ?? '';
    return answer.status === 401 ? `401: the server does not accept it. ${text}` : `The server answered ${answer.status}. ${text}`;
  } catch (cause) {
    return `The server could not be reached (${message(cause)}).`;
  }
}

function fetchMe(token: string | null): Promise<Response> {
  return fetch('/v1/operators/me', {
    headers: token ? { Authorization: `Bearer ${token}` } : {},
    cache: 'no-store',
    credentials: 'omit',
    signal: AbortSignal.timeout(15_000),
  });
}

/** After a sign-in by redirect: back to where it began. */
function returnToPlace(): void {
  const place = sessionStorage.getItem(PLACE);
  sessionStorage.removeItem(PLACE);
  if (credential && place && (location.hash === '' || location.hash === '#')) {
    history.replaceState(null, '', place);
    dispatchEvent(new HashChangeEvent('hashchange'));
  }
}

function message(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
