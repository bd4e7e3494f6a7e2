// Sign-in by Clerk, by redirect to its hosted page. Its library is large and is fetched only here, only when
// the configuration says Clerk.

import type { Clerk } from '@clerk/clerk-js/no-rhc';
import type { Credential } from './credential';
import { claimsOf } from './local';
import type { Config } from './types';

let loading: Promise<Clerk> | null = null;

function load(config: Config): Promise<Clerk> {
  loading ??= (async () => {
    if (!config.clerk_publishable_key) throw new Error('the server names no publishable key');
    const { Clerk } = await import('@clerk/clerk-js/no-rhc');
    const clerk = new Clerk(config.clerk_publishable_key);
    // standardBrowser stays on: it is what brings a session back over Clerk's own domain.
    await clerk.load({ telemetry: false });
    return clerk;
  })().catch((cause: unknown) => {
    loading = null;
    throw cause;
  });
  return loading;
}

/** Whether Clerk answered: without it the library loads all the same, but knows no sign-in page but ours. */
function answered(clerk: Clerk): boolean {
  return new URL(clerk.buildSignInUrl(), location.href).origin !== location.origin;
}

async function reach(config: Config): Promise<Clerk> {
  const clerk = await load(config);
  if (clerk.session || answered(clerk)) return clerk;
  loading = null; // the next attempt starts over
  throw new Error('it does not answer');
}

export async function signIn(config: Config): Promise<void> {
  const clerk = await reach(config);
  await clerk.redirectToSignIn({ signInForceRedirectUrl: location.href, signUpForceRedirectUrl: location.href });
}

export async function resume(config: Config): Promise<Credential | null> {
  const clerk = await reach(config);
  if (!clerk.session) return null;
  let last = '';
  return {
    kind: 'clerk',
    // getToken answers from its own cache and renews the token shortly before its minute is over.
    token: async (fresh) => {
      const token = (await clerk.session?.getToken({ skipCache: fresh })) ?? null;
      last = token ?? last;
      return token;
    },
    signOut: async () => {
      await clerk.signOut({ redirectUrl: location.origin + location.pathname });
    },
    organization: () => {
      const claims = claimsOf(last);
      const name = clerk.organization?.name ?? claims.org_id;
      return name ? { name: String(name), role: String(claims.org_role ?? '') } : null;
    },
  };
}
