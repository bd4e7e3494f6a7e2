// Sign-in at an OpenID Connect issuer by authorization code with PKCE (RFC 7636), as a client without a secret. The
// browser goes to the issuer's page and comes back with ?code=…&state=… The code is worth nothing without the verifier,
// which stays in this tab. The session is kept over a reload in the tab's session storage, as Clerk keeps its own.

import type { Credential } from './credential';
import { claimsOf } from './local';
import type { Config, Issuer } from './types';

const SESSION = 'argus.oidc-session';
const ASKED = 'argus.oidc-asked';
/** After a sign-out the issuer is to ask who it is, and not to take up its own session. */
const LEFT = 'argus.oidc-left';
/** A token this near its end, in milliseconds, is renewed before it is used. */
const MARGIN = 10_000;

interface Asked {
  issuer: string;
  state: string;
  nonce: string;
  verifier: string;
}

interface Kept {
  issuer: string;
  token: string;
  refresh: string | null;
}

export async function signIn(issuer: Issuer): Promise<void> {
  if (!issuer.authorization_endpoint) throw new Error('the server has not reached it yet');
  const asked: Asked = { issuer: issuer.issuer, state: random(), nonce: random(), verifier: random() };
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(asked.verifier));
  sessionStorage.setItem(ASKED, JSON.stringify(asked));
  const url = new URL(issuer.authorization_endpoint);
  const fields = {
    response_type: 'code',
    client_id: issuer.client_id,
    redirect_uri: redirect(),
    scope: issuer.scopes.join(' '),
    state: asked.state,
    nonce: asked.nonce,
    code_challenge: base64url(new Uint8Array(digest)),
    code_challenge_method: 'S256',
  };
  for (const [name, value] of Object.entries(fields)) url.searchParams.set(name, value);
  if (sessionStorage.getItem(LEFT) !== null) url.searchParams.set('prompt', 'login');
  location.assign(url);
}

/** Takes up the sign-in that the address brought, or the session of before a reload. Throws a sentence when it failed. */
export async function resume(config: Config): Promise<Credential | null> {
  const brought = new URLSearchParams(location.search);
  const state = brought.get('state');
  const answered = state !== null && (brought.has('code') || brought.has('error'));
  const asked = read<Asked>(ASKED);
  sessionStorage.removeItem(ASKED);
  if (!answered) {
    const kept = read<Kept>(SESSION);
    const issuer = config.issuers.find((i) => i.issuer === kept?.issuer);
    if (!kept || !issuer) return null;
    return credentialOf(issuer, kept);
  }
  // Out of the address bar and the history at once.
  history.replaceState(null, '', location.pathname + location.hash);
  const issuer = config.issuers.find((i) => i.issuer === asked?.issuer);
  // An answer to no question of this tab is another person's sign-in.
  if (!asked || !issuer || state !== asked.state) return null;
  const named = brought.get('iss');
  if (named !== null && named !== issuer.issuer) throw new Error(`${issuer.name} did not sign you in: another issuer answered.`);
  const problem = brought.get('error');
  if (problem !== null) throw new Error(`${issuer.name} did not sign you in (${problem}).`);
  const kept = await ask(issuer, asked.nonce, {
    grant_type: 'authorization_code',
    code: brought.get('code') ?? '',
    redirect_uri: redirect(),
    code_verifier: asked.verifier,
  });
  if (!kept) throw new Error(`${issuer.name} did not sign you in: it did not take its own code.`);
  keep(kept);
  sessionStorage.removeItem(LEFT);
  return credentialOf(issuer, kept);
}

export function forget(): void {
  sessionStorage.removeItem(SESSION);
}

function keep(kept: Kept): void {
  sessionStorage.setItem(SESSION, JSON.stringify(kept));
}

/** Asks for tokens. null: the issuer says no. nonce is '' when a token is renewed. */
async function ask(issuer: Issuer, nonce: string, fields: Record<string, string>): Promise<Kept | null> {
  if (!issuer.token_endpoint) throw new Error(`${issuer.name} cannot be reached.`);
  const answer = await fetch(issuer.token_endpoint, {
    method: 'POST',
    body: new URLSearchParams({ ...fields, client_id: issuer.client_id }),
    credentials: 'omit',
    cache: 'no-store',
    redirect: 'error',
    referrerPolicy: 'no-referrer',
    signal: AbortSignal.timeout(10_000),
  });
  if (answer.status >= 400 && answer.status < 500) return null;
  if (!answer.ok) throw new Error(`${issuer.name} answered ${answer.status}.`);
  const got = (await answer.json()) as { access_token?: string; id_token?: string; refresh_token?: string };
  if (nonce !== '') {
    const claims = claimsOf(got.id_token ?? '');
    const audience = Array.isArray(claims.aud) ? claims.aud : [claims.aud];
    if (claims.nonce !== nonce || claims.iss !== issuer.issuer || !audience.includes(issuer.client_id))
      throw new Error(`${issuer.name} answered another sign-in.`);
  }
  const token = issuer.token === 'id_token' ? got.id_token : got.access_token;
  if (!token || typeof claimsOf(token).exp !== 'number')
    throw new Error(`${issuer.name} gave a token that this server cannot check. Its administrator configures the audience at the issuer.`);
  return { issuer: issuer.issuer, token, refresh: got.refresh_token ?? null };
}

function credentialOf(issuer: Issuer, first: Kept): Credential {
  let kept = first;
  let renewing: Promise<string | null> | null = null;
  let left = false;

  const renew = async (): Promise<string | null> => {
    if (!kept.refresh || left) return null;
    const got = await ask(issuer, '', { grant_type: 'refresh_token', refresh_token: kept.refresh });
    if (!got) return null;
    const [was, is] = [claimsOf(kept.token), claimsOf(got.token)];
    if (was.sub !== is.sub || was.iss !== is.iss) {
      forget(); // a renewal never makes a person another (OpenID Connect Core, 12.2)
      return null;
    }
    kept = { ...got, refresh: got.refresh ?? kept.refresh };
    if (left) return null; // a sign-out that came meanwhile stays one
    keep(kept);
    return kept.token;
  };

  return {
    kind: 'oidc',
    issuer: issuer.name,
    token: async (fresh) => {
      if (left) return null;
      const rest = Number(claimsOf(kept.token).exp ?? 0) * 1000 - Date.now();
      // Without a refresh token the token serves to its very end.
      if (!fresh && rest > (kept.refresh ? MARGIN : 0)) return kept.token;
      renewing ??= renew().finally(() => {
        renewing = null;
      });
      return renewing;
    },
    signOut: async () => {
      left = true;
      forget();
      sessionStorage.setItem(LEFT, '1');
      await renewing?.catch(() => null); // what it brings is revoked too
      if (!issuer.revocation_endpoint) return;
      await fetch(issuer.revocation_endpoint, {
        method: 'POST',
        body: new URLSearchParams({ token: kept.refresh ?? kept.token, client_id: issuer.client_id }),
        credentials: 'omit',
        cache: 'no-store',
        referrerPolicy: 'no-referrer',
        signal: AbortSignal.timeout(10_000),
      });
    },
  };
}

/** Where the issuer sends the browser back to: exactly what is registered there. */
function redirect(): string {
  return `${location.origin}/`;
}

function random(): string {
  return base64url(crypto.getRandomValues(new Uint8Array(32)));
}

function base64url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes))
    .replace(/\+/g, '-')
    .replace(/\//g, '_')
    .replace(/=/g, '');
}

function read<T>(key: string): T | null {
  try {
    return JSON.parse(sessionStorage.getItem(key) ?? 'null') as T | null;
  } catch {
    return null;
  }
}
