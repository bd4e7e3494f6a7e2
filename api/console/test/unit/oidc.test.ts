import assert from 'node:assert/strict';
import { test } from 'node:test';
import { resume } from '../../src/lib/oidc';
import type { Config } from '../../src/lib/types';

const encoded = (v: unknown) => btoa(JSON.stringify(v)).replace(/=/g, '');
const jwt = (exp: number) => `${encoded({ alg: 'ES256' })}.${encoded({ exp })}.x`;

test('a renewal under way does not undo a sign-out, and what it brings is revoked', async () => {
  const kept = new Map<string, string>();
  const revoked: string[] = [];
  let give: (r: Response) => void = () => undefined;
  Object.assign(globalThis, {
    sessionStorage: {
      getItem: (k: string) => kept.get(k) ?? null,
      setItem: (k: string, v: string) => kept.set(k, v),
      removeItem: (k: string) => kept.delete(k),
    },
    location: { search: '', hash: '', pathname: '/', origin: 'https://argus.example' },
    fetch: async (address: string, init: RequestInit) => {
      if (address.endsWith('/token')) return new Promise<Response>((resolve) => (give = resolve));
      revoked.push(String(new URLSearchParams(String(init.body)).get('token')));
      return new Response();
    },
  });
  const issuer = 'https://id.example';
  kept.set('argus.oidc-session', JSON.stringify({ issuer, token: jwt(1), refresh: 'first' }));
  const config = {
    issuers: [{ name: 'id', issuer, client_id: 'c', token: 'access_token', token_endpoint: `${issuer}/token`, revocation_endpoint: `${issuer}/revoke` }],
  } as unknown as Config;
  const credential = await resume(config);
  assert.ok(credential);
  const renewing = credential.token(false);
  const leaving = credential.signOut();
  give(Response.json({ access_token: jwt(Date.now() / 1000 + 3600), refresh_token: 'second' }));
  assert.equal(await renewing, null);
  await leaving;
  assert.equal(kept.get('argus.oidc-session'), undefined);
  assert.deepEqual(revoked, ['second']);
  assert.equal(await credential.token(false), null);
});

test('a renewal that brings another person is not used, and ends the session here', async () => {
  const kept = new Map<string, string>();
  const of = (sub: string, exp: number) => `${encoded({ alg: 'ES256' })}.${encoded({ iss: 'https://id.example', sub, exp })}.x`;
  Object.assign(globalThis, {
    sessionStorage: {
      getItem: (k: string) => kept.get(k) ?? null,
      setItem: (k: string, v: string) => kept.set(k, v),
      removeItem: (k: string) => kept.delete(k),
    },
    location: { search: '', origin: 'https://argus.example' },
    fetch: async () => Response.json({ access_token: of('mallory', Date.now() / 1000 + 3600), refresh_token: 'second' }),
  });
  const issuer = 'https://id.example';
  kept.set('argus.oidc-session', JSON.stringify({ issuer, token: of('ada', 1), refresh: 'first' }));
  const config = { issuers: [{ name: 'id', issuer, client_id: 'c', token: 'access_token', token_endpoint: `${issuer}/token` }] } as unknown as Config;
  const credential = await resume(config);
  assert.equal(await credential?.token(false), null);
  assert.equal(kept.get('argus.oidc-session'), undefined);
});
