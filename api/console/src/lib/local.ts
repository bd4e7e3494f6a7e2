// Sign-in by the local issuer of `make dev`. The browser goes to its page with redirect_url and state, and comes
// back with #session_token=…&refresh_token=…&state=… behind the address, which reaches no server's log. The
// session token lives for a minute; POST /token, beside the sign-in page, gives the next one.

import type { Credential } from './credential';
import type { Config } from './types';

const SESSION = 'argus.local-session';
const STATE = 'argus.local-state';
/** A token this near its end, in milliseconds, is renewed before it is used. */
const MARGIN = 10_000;

export function signIn(config: Config): void {
  if (!config.local_sign_in_url) throw new Error('the server names no sign-in page');
  const url = new URL(config.local_sign_in_url, location.href);
  const state = crypto.randomUUID();
  sessionStorage.setItem(STATE, state);
  url.searchParams.set('redirect_url', location.origin + location.pathname);
  url.searchParams.set('state', state);
  location.assign(url);
}

/** Takes up the session that the address brought, or the one of before a reload. */
export function resume(config: Config): Credential | null {
  const brought = new URLSearchParams(location.hash.replace(/^#/, ''));
  const session = brought.get('session_token');
  let refresh = sessionStorage.getItem(SESSION);
  let first = '';
  if (session !== null) {
    // Out of the address bar and the history at once.
    history.replaceState(null, '', location.pathname);
    dispatchEvent(new HashChangeEvent('hashchange'));
    // An answer to no question of this tab is another person's session.
    const asked = sessionStorage.getItem(STATE);
    if (asked !== null && brought.get('state') === asked) {
      first = session;
      refresh = brought.get('refresh_token') ?? '';
      sessionStorage.setItem(SESSION, refresh);
    }
  }
  sessionStorage.removeItem(STATE);
  return refresh !== null && config.local_sign_in_url ? credentialOf(config.local_sign_in_url, refresh, first) : null;
}

export function forget(): void {
  sessionStorage.removeItem(SESSION);
}

function credentialOf(signInURL: string, refresh: string, first: string): Credential {
  let token = first;
  let renewing: Promise<string | null> | null = null;

  const ask = (path: string) =>
    fetch(new URL(path, signInURL), {
      method: 'POST',
      headers: { Authorization: `Bearer ${refresh}` },
      credentials: 'omit',
      cache: 'no-store',
      signal: AbortSignal.timeout(10_000),
    });
  const renew = async (): Promise<string | null> => {
    const answer = await ask('token');
    if (answer.status === 401 || answer.status === 403) return null;
    if (!answer.ok) throw new Error(`the sign-in server answered ${answer.status}`);
    token = ((await answer.json()) as { session_token: string }).session_token;
    return token;
  };

  return {
    kind: 'local',
    token: async (fresh) => {
      const expiry = Number(claimsOf(token).exp ?? 0) * 1000;
      if (!fresh && expiry > Date.now() + MARGIN) return token;
      renewing ??= renew().finally(() => (renewing = null));
      return renewing;
    },
    signOut: async () => {
      forget();
      await ask('sign-out');
    },
    organization: () => {
      const claims = claimsOf(token);
      return typeof claims.org_id === 'string' ? { name: claims.org_id, role: String(claims.org_role ?? '') } : null;
    },
  };
}

/** What the token says, for display alone: the server is who checks it. */
export function claimsOf(token: string): Record<string, unknown> {
  try {
    const part = token.split('.')[1]!.replace(/-/g, '+').replace(/_/g, '/');
    const bytes = Uint8Array.from(atob(part), (c) => c.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
  } catch {
    return {};
  }
}
