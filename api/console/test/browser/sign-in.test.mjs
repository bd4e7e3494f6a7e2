import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startMock } from '../mock/server.mjs';
import { at, auditReady, eventually, setup, withPage } from './fixture.mjs';

const s = setup();

test('the local issuer: sign in, reload, sign out; the place is kept', () =>
  withPage({}, async (page) => {
    const place = '#/settings/audit?status=2xx&since=6h';
    await page.goto(`${s.server.url}/${place}`);
    await page.click('text=Sign in at the local issuer');
    await page.waitForSelector('button[name=operator]');
    await page.locator('button[name=operator]').first().click();
    await auditReady(page);
    assert.equal(new URL(page.url()).hash, place);
    assert.ok(!page.url().includes('session_token'), 'the session is out of the address');

    await page.reload();
    await auditReady(page);
    assert.equal(new URL(page.url()).hash, place);

    await page.goto(`${s.server.url}/#/profile`);
    await page.waitForSelector('text=Clerk user');
    assert.match(await page.textContent('.page'), /of the local issuer/);
    assert.match(await page.textContent('.page'), /Role/);
    await page.click('text=Sign out');
    await page.waitForSelector('.sign-in');
    await page.reload();
    await page.waitForSelector('.sign-in');
  }));

test('a session that this tab did not ask for is not taken', () =>
  withPage({}, async (page) => {
    await page.goto(`${s.server.url}/#session_token=a.b.c&refresh_token=x&state=forged`);
    await page.waitForSelector('.sign-in');
    assert.ok(!page.url().includes('session_token'));
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  }));

test('a pasted token is in memory alone', () =>
  at('#/profile', async (page) => {
    await page.waitForSelector('text=kept in this tab');
    const stored = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
    assert.ok(!stored.includes(s.server.admin), 'the token is stored');
    await page.reload();
    await page.waitForSelector('.sign-in');
    assert.equal(new URL(page.url()).hash, '#/profile');
  }));

test('a wrong token is rejected with a sentence', () =>
  withPage({}, async (page) => {
    await page.goto(s.server.url);
    await page.waitForSelector('.sign-in');
    await page.click('.paste summary');
    await page.fill('.paste input', 'argus_pat_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA');
    await page.click('.paste button[type=submit]');
    await page.waitForSelector('.form-error');
    assert.match(await page.textContent('.form-error'), /The server does not accept it/i);
    await page.fill('.paste input', 'two words and more');
    await page.click('.paste button[type=submit]');
    await eventually('the other problem', async () => /Invalid token: it has spaces/.test(await page.textContent('.form-error')));
  }));

test('a revoked token leads to the sign-in, and back to what was open', async () => {
  const made = await s.server.call(s.server.admin, '/v1/tokens', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ name: 'console test', preset: 'admin-full', expires_in: '1d' }),
  });
  const { token, secret } = await made.json();
  await at(
    '#/tenants',
    async (page) => {
      await page.waitForSelector('table');
      await page.locator('button[aria-label^="Arm "]').first().click();
      await page.fill('dialog input >> nth=1', 'half a reason');
      await s.server.call(s.server.admin, `/v1/tokens/${token.id}`, { method: 'DELETE' });
      await page.waitForSelector('.sign-in.over', { timeout: 60_000 });
      assert.match(await page.textContent('.sign-in-reason'), /not accepted any more/);
      await page.fill('.paste input', s.server.admin); // the field is open: a token was used before
      await page.press('.paste input', 'Enter');
      await page.waitForSelector('.sign-in', { state: 'detached' });
      assert.equal(await page.inputValue('dialog input >> nth=1'), 'half a reason');
    },
    { token: secret },
  );
});

test('what is shown follows the scopes; a rejection names the one that lacks', async () => {
  await at(
    '',
    async (page) => {
      await page.waitForSelector('h1:has-text("Tenants")');
      assert.equal(new URL(page.url()).hash, '#/tenants');
      assert.deepEqual(await page.$$eval('.rail section a', (l) => l.map((a) => a.textContent.trim())), [
        'Tenants',
        'Services',
        'Live sessions',
        'Health',
        'Tokens',
        'Profile',
      ]);
      await page.waitForSelector('table');
      assert.equal(await page.locator('button[aria-label^="Arm "]').count(), 0);
      for (const [place, scope] of [
        ['#/settings/audit', 'logs:read'],
        ['#/performance', 'logs:read'],
        ['#/compute', 'compute:read'],
      ]) {
        await page.evaluate((hash) => (location.hash = hash), place);
        await page.waitForSelector('.failure');
        await eventually(place, async () => (await page.textContent('.failure')).includes(`needs the scope ${scope}`));
      }
    },
    { token: s.server.tenants },
  );
  await at(
    '#/compute',
    async (page) => {
      await page.waitForSelector('table, .empty');
      assert.equal(await page.locator('button:has-text("Launch")').count(), 0);
      await page.evaluate(() => (location.hash = '#/settings/tokens?new=1'));
      await page.waitForSelector('dialog');
      assert.match(await page.textContent('dialog'), /tokens:write/);
    },
    { token: s.server.support },
  );
});

test('Clerk: its library is fetched only when the configuration says so, and its being away is no dead end', async () => {
  await at('#/tenants', async (page) => {
    await page.waitForSelector('table');
    const files = await page.evaluate(() => performance.getEntriesByType('resource').map((r) => r.name));
    assert.ok(!files.some((f) => f.includes('clerk')), 'Clerk was loaded in local mode');
  });
  const clerk = await startMock({ rows: 50, auth: 'clerk', clerkKey: `pk_live_${Buffer.from('clerk.argus.example$').toString('base64')}` });
  try {
    await withPage({ url: clerk.url, hosts: ['clerk.argus.example', 'accounts.argus.example'] }, async (page, context) => {
      const asked = [];
      let there = false;
      await context.route('https://clerk.argus.example/**', (route) => {
        const { pathname } = new URL(route.request().url());
        asked.push(pathname);
        if (!there) return route.abort();
        const headers = { 'access-control-allow-origin': clerk.url, 'access-control-allow-credentials': 'true', 'content-type': 'application/json' };
        const environment = {
          auth_config: { object: 'auth_config', id: 'a', single_session_mode: true },
          display_config: {
            object: 'display_config',
            id: 'd',
            instance_environment_type: 'production',
            sign_in_url: 'https://accounts.argus.example/sign-in',
            sign_up_url: 'https://accounts.argus.example/sign-up',
          },
          user_settings: { attributes: {}, social: {}, actions: {}, sign_in: {}, sign_up: {} },
          organization_settings: { enabled: true },
        };
        return route.fulfill({ headers, body: JSON.stringify(pathname === '/v1/environment' ? environment : { response: null, client: null }) });
      });
      await context.route('https://accounts.argus.example/**', (route) => route.fulfill({ contentType: 'text/html', body: '<h1>Accounts</h1>' }));
      const place = '#/settings/audit?status=5xx';
      await page.goto(`${clerk.url}/${place}`);
      await page.waitForSelector('.sign-in', { timeout: 60_000 });
      assert.match(await page.textContent('.sign-in-reason'), /Clerk could not be reached/);
      assert.ok(asked.length > 0, 'Clerk was asked');
      const files = await page.evaluate(() => performance.getEntriesByType('resource').map((r) => r.name));
      assert.ok(
        files.some((f) => f.includes('clerk')),
        'the library came from this server',
      );
      await page.click('.paste summary');
      await page.fill('.paste input', 'argus_pat_admin');
      await page.press('.paste input', 'Enter');
      await auditReady(page);
      assert.equal(new URL(page.url()).hash, place);

      // Clerk is back: by redirect to its page, which is told the place to come back to.
      there = true;
      await page.reload();
      await page.click('button:has-text("Sign in")');
      await page.waitForURL('https://accounts.argus.example/**');
      assert.ok(decodeURIComponent(page.url()).includes(`${clerk.url}/${place}`), page.url());
    });
  } finally {
    clerk.close();
  }
});
