import assert from 'node:assert/strict';
import { test } from 'node:test';
import { auditReady, eventually, setup, withPage } from './fixture.mjs';

const s = setup();

/** The issuer beside Clerk; the mock has none. */
async function second() {
  const config = async () => (await fetch(`${s.server.url}/console-config.json`)).json();
  if ((await config()).issuers.length === 0) return null;
  return eventually('the server has reached the issuer', async () => (await config()).issuers.find((i) => i.authorization_endpoint));
}

test('the second issuer: sign in, reload, renew, sign out; the place is kept', async () => {
  const issuer = await second();
  if (!issuer) return assert.ok(s.server.mock || process.env.ARGUS_CONSOLE_MOCKED, 'the server names no issuer');
  await withPage({}, async (page) => {
    const place = '#/settings/audit?status=2xx&since=6h';
    await page.goto(`${s.server.url}/${place}`);
    const buttons = page.locator('.sign-in-card > button');
    await buttons.last().waitFor();
    assert.deepEqual(await buttons.allTextContents(), ['Sign in at the local issuer', `Sign in at ${issuer.name}`], 'Clerk’s comes first');
    await page.click(`text=Sign in at ${issuer.name}`);
    await page.waitForSelector('button[name=person]');
    const asked = new URL(page.url()).searchParams;
    assert.equal(asked.get('code_challenge_method'), 'S256');
    assert.equal(asked.get('redirect_uri'), `${s.server.url}/`);
    assert.ok(asked.get('state').length > 40 && asked.get('nonce').length > 40 && asked.get('code_challenge').length === 43);
    await page.click('button:has-text("Imani Osei")');
    await auditReady(page);
    assert.equal(page.url(), `${s.server.url}/${place}`, 'the code is out of the address');
    assert.equal(await page.evaluate(() => history.state), null);

    await page.reload();
    await auditReady(page);
    await page.goto(`${s.server.url}/#/profile`);
    await page.waitForSelector('text=second:00u1imani');
    assert.match(await page.textContent('.page'), /Imani Osei/);
    assert.match(await page.textContent('.page'), /of second/);
    // The token is in this tab’s session storage alone.
    const kept = await page.evaluate(() => [JSON.stringify({ ...localStorage }), document.cookie, JSON.stringify({ ...sessionStorage })]);
    assert.ok(!kept[0].includes('eyJ') && kept[1] === '' && kept[2].includes('eyJ'), 'where the token is');

    // A token that is near its end is renewed, by a refresh token that the issuer takes once.
    const renewals = [];
    page.on('request', (r) => r.url() === issuer.token_endpoint && r.method() === 'POST' && renewals.push(r.postData()));
    await page.evaluate(() => {
      const there = Date.now;
      Date.now = () => there() + 295_000;
    });
    await eventually('a renewal', async () => {
      await page.evaluate(() => (location.hash = location.hash === '#/health' ? '#/profile' : '#/health'));
      return renewals.length > 0;
    });
    assert.match(renewals[0], /grant_type=refresh_token/);
    await page.evaluate(() => (location.hash = '#/profile'));
    await page.waitForSelector('text=second:00u1imani');

    const revoked = page.waitForRequest((r) => r.url() === issuer.revocation_endpoint && r.method() === 'POST');
    await page.click('text=Sign out');
    await page.waitForSelector('.sign-in');
    await revoked;
    assert.ok(!(await page.evaluate(() => JSON.stringify({ ...sessionStorage }))).includes('eyJ'), 'the session is forgotten');
    await page.reload();
    await page.waitForSelector('.sign-in');
    await page.click(`text=Sign in at ${issuer.name}`);
    await page.waitForSelector('button[name=person]');
    assert.equal(new URL(page.url()).searchParams.get('prompt'), 'login', 'after a sign-out the issuer asks anew');
  });
});

test('an answer that this tab did not ask for is not taken', async () => {
  const issuer = await second();
  if (!issuer) return assert.ok(s.server.mock || process.env.ARGUS_CONSOLE_MOCKED, 'the server names no issuer');
  for (const query of ['code=stolen&state=forged', `code=x&state=y&iss=${encodeURIComponent(issuer.issuer)}`, 'error=access_denied&state=x'])
    await withPage({}, async (page) => {
      const sent = [];
      page.on('request', (r) => r.method() === 'POST' && sent.push(r.url()));
      await page.goto(`${s.server.url}/?${query}#/health`);
      await page.waitForSelector('.sign-in');
      assert.equal(page.url(), `${s.server.url}/#/health`);
      assert.deepEqual(sent, [], 'no code is redeemed');
      assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    });
  // The state is right, another issuer answers.
  await withPage({}, async (page) => {
    await page.goto(s.server.url);
    await page.click(`text=Sign in at ${issuer.name}`);
    await page.waitForSelector('button[name=person]');
    const state = new URL(page.url()).searchParams.get('state');
    await page.goto(`${s.server.url}/?code=x&state=${state}&iss=https://evil.example.com`);
    await page.waitForSelector('.sign-in-reason');
    assert.match(await page.textContent('.sign-in-reason'), /another issuer answered/);
    await page.goto(`${s.server.url}/?code=x&state=${state}`); // a state is good once
    await page.waitForSelector('.sign-in');
    assert.equal(await page.locator('.sign-in-reason').count(), 0);
  });
});
