// Reading the log: ids find their calls, views, words that fit, the sentence of a call, and the keys of the search.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { accessible, agent, at, auditReady, eventually, makeCalls, none, setup, shownIds, unheard } from './fixture.mjs';

const s = setup();
const params = (page) => new URLSearchParams(new URL(page.url()).hash.split('?')[1]);

test('the id of a call opens it, under any window and filter', async () => {
  const [id] = await makeCalls(1, agent('by-id'));
  // A window that ended before the call, and a filter that the call does not fit.
  await at('#/settings/audit?since=2020-01-01T00:00:00Z&until=2020-01-02T00:00:00Z&status=5xx', async (page) => {
    await auditReady(page);
    await page.fill('#search', id);
    await page.keyboard.press('Enter');
    await page.waitForSelector(`.drawer .fact:has-text("${id}")`);
    await eventually('the list has the call alone', async () => (await shownIds(page)).join() === id);
    assert.deepEqual(
      [...params(page)],
      [
        ['id', id],
        ['row', id],
      ],
    );
    assert.match(await page.textContent('.window-button'), /Whole log/);
    assert.match(await page.textContent('.drawer-sentence'), /\w+ .*\w/);
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    await page.click('button[aria-label="Copy as evidence"]');
    const evidence = await eventually('the evidence', () => page.evaluate((id) => navigator.clipboard.readText().then((t) => t.includes(id) && t), id));
    for (const part of [id, await page.textContent('.drawer-sentence'), 'Row hash: ', `row=${id}`]) assert.ok(evidence.includes(part), part);
    // On paper the drawer stands alone.
    await page.emulateMedia({ media: 'print' });
    assert.equal(await page.locator('.log-area').isVisible(), false);
    assert.equal(await page.locator('.rail').isVisible(), false);
    assert.equal(await page.locator('.drawer-sentence').isVisible(), true);
    await page.emulateMedia({ media: 'screen' });
    await page.goBack();
    await eventually('the window before', () => params(page).get('status') === '5xx');
  });
});

test('a value that no call can have is told as such, with what was meant', () =>
  at('#/profile', async (page) => {
    await page.clock.install();
    await page.evaluate(() => (location.hash = '#/settings/audit?actor=adaa&status=2xx'));
    const said = page.locator('.unknown-value');
    await unheard(page);
    assert.match(await said.textContent(), /^No actor 'adaa'\. Did you mean .*Ada Okafor, user_2ada/);
    assert.equal(await page.locator('text=No calls match').count(), 0);
    const asked = [];
    page.on('request', (r) => /\/v1\/audit-log/.test(r.url()) && asked.push(r.url()));
    await page.clock.fastForward(40_000); // it is not asked again by itself: the answer would be the same
    await page.waitForTimeout(300);
    assert.deepEqual(asked, []);
    await said.locator('button:has-text("Ada Okafor")').click();
    await eventually('the actor meant', () => params(page).get('actor')?.startsWith('user_2ada'));
    await auditReady(page);
    assert.equal(params(page).get('status'), '2xx');
    await page.evaluate(() => (location.hash = '#/settings/audit?not_tenant=7ELEVEN&not_tenant=UTD_7ELEVEN_001'));
    await unheard(page, '.unknown-value button:has-text("UTD_7ELEVEN_001")');
    await page.click('text=Leave this filter out');
    await auditReady(page);
    assert.deepEqual([...params(page)], [['not_tenant', 'UTD_7ELEVEN_001']]);
    await page.evaluate(() => (location.hash = '#/performance?route=arm'));
    await unheard(page);
    await said.locator('button:has-text("POST /v1/tenants/:id/arm")').click();
    await eventually('the route meant', () => params(page).get('route') === 'POST /v1/tenants/:id/arm');
  }));

test('views are conditions of the filter, and keep its others', () =>
  at('#/settings/audit?service=argus&status=2xx', async (page) => {
    await auditReady(page);
    const pressed = () => page.$$eval('.view[aria-pressed=true]', (l) => l.map((b) => b.textContent).join());
    assert.equal(await pressed(), '');
    for (const [name, query] of [
      ['Refused', 'service=argus&status=401&status=403'],
      ['Errors', 'service=argus&status=5xx'],
      ['Changes', 'service=argus&not_method=GET&not_method=HEAD&not_method=OPTIONS'],
      ['All', 'service=argus'],
    ]) {
      await page.click(`.view >> text="${name}"`);
      await eventually(name, async () => params(page).toString() === query && (await pressed()) === name);
    }
  }));

test('Tab and Enter complete, Ctrl-K finds the search from any page', () =>
  at('#/profile', async (page) => {
    await page.keyboard.press('Control+k');
    await page.waitForFunction(() => document.activeElement?.id === 'search');
    await page.keyboard.type('stat');
    await page.waitForSelector('.choices li:has-text("status:")');
    await page.keyboard.press('Tab');
    assert.equal(await page.inputValue('#search'), 'status:');
    await page.fill('#search', 'outc');
    await page.waitForSelector('.choices li:has-text("outcome:")');
    await page.keyboard.press('Enter');
    assert.equal(await page.inputValue('#search'), 'outcome:');
  }));

test('rows fit at every width in both themes: interrupted, late, other days; no frame on load', async () => {
  const now = Date.now();
  const client = agent('fits');
  await makeCalls(3, client);
  const answer = await s.server.json(s.server.admin, `/v1/audit-log?client=${client}&since=1h`);
  const chrome = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36';
  const time = (ms) => new Date(ms).toISOString().replace('Z', '000Z');
  answer.rows[1] = { ...answer.rows[1], outcome: 'interrupted', status: null, latency_us: null, user_agent: chrome };
  answer.rows[2] = { ...answer.rows[2], occurred_at: time(now - 26 * 3_600_000), recorded_at: time(now - 25 * 3_600_000), user_agent: chrome };
  for (const colorScheme of ['light', 'dark']) {
    await at(
      '#/profile',
      async (page) => {
        await page.route(/\/v1\/audit-log\?/, (route) => route.fulfill({ json: answer }));
        for (const width of [375, 768, 1440, 1920]) {
          await page.setViewportSize({ width, height: 900 });
          await page.goto('about:blank');
          await s.server.enter(page, s.server.admin, `#/settings/audit?client=${client}&since=1h`);
          await auditReady(page);
          const clipped = () =>
            page.evaluate(() =>
              [...document.querySelectorAll('tr[data-id] .status, tr[data-id] .t-clock, tr[data-id] .t-date, tr[data-id] .t-late')]
                .filter((e) => e.offsetWidth > 0)
                .filter((e) => {
                  const own = e.getBoundingClientRect();
                  const cell = e.closest('td').getBoundingClientRect();
                  return own.left < cell.left || own.right > cell.right + 0.5 || own.top < cell.top - 0.5 || own.bottom > cell.bottom + 0.5;
                })
                .map((e) => `${e.className} ${e.textContent}`),
            );
          await none(`clipped at ${width}, ${colorScheme}`, clipped);
          assert.equal(await page.textContent('.tone-cut'), 'interrupted');
          const route = await page.locator('td.c-route').first().boundingBox();
          assert.ok(route.width >= 130, `the route has ${route.width} pixels at ${width}`);
          assert.ok(await page.locator('.t-date').first().isVisible(), 'the date, as days mix');
          if (width === 1920) assert.equal(await page.locator('tr[data-id] .c-client').nth(1).textContent(), 'Chrome 141');
          assert.equal(await page.evaluate(() => getComputedStyle(document.querySelector('.main')).outlineStyle), 'none');
          await page.click('.window-button');
          const fields = await page.$$eval('.window-form input', (l) => l.map((i) => [i.scrollWidth, i.clientWidth]));
          for (const [whole, seen] of fields) assert.ok(whole <= seen, `the time picker shows ${seen} of ${whole} pixels at ${width}`);
          await page.keyboard.press('Escape');
          await accessible(page, `${width} ${colorScheme}`);
        }
      },
      { colorScheme },
    );
  }
});
