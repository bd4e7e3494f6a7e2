// Sign-in by the local issuer of `make dev`. The browser goes to its page with redirect_url and comes back with
// #session_token=… behind the address, which never reaches a server's log.

import type { Credential } from './session';
import type { Config } from './types';

const KEY = 'argus.local-session';

export function signIn(config: Config): void {
  if (!config.local_sign_in_url) throw new Error('the server names no sign-in page');
  const url = new URL(config.local_sign_in_url, location.href);
  url.searchParams.set('redirect_url', location.origin + location.pathname);
  location.assign(url);
}

/** Takes up the session that the address brought, or the one of before a reload. */
export function resume(): Credential | null {
  const given = new URLSearchParams(location.hash.replace(/^#\/?\??/, '')).get('session_token');
  if (given) {
    sessionStorage.setItem(KEY, given);
    // Out of the address bar and the history at once.
    history.replaceState(null, '', location.pathname);
    dispatchEvent(new HashChangeEvent('hashchange'));
  }
  const token = given ?? sessionStorage.getItem(KEY);
  return token ? credentialOf(token) : null;
}

export function forget(): void {
  sessionStorage.removeItem(KEY);
}

function credentialOf(token: string): Credential {
  return {
    kind: 'local',
    token: async () => token,
    signOut: async () => forget(),
    organization: () => {
      const claims = claimsOf(token);
      return typeof claims.org_id === 'string' ? { name: claims.org_id, role: String(claims.org_role ?? '') } : null;
    },
    impersonator: () => {
      const act = claimsOf(token).act as { sub?: string } | undefined;
      return act?.sub ?? null;
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
