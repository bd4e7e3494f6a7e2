// The list: chips and their menus, views that a team shares, columns, zones, the console's own polling.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { accessible, agent, at, auditReady, drawn, eventually, makeCalls, none, pressAtOnce, rows, setup, told, tooWide } from './fixture.mjs';

const s = setup();
const params = (page) => new URLSearchParams(new URL(page.url()).hash.split('?')[1]);
const WIDTHS = [375, 768, 1440, 1920];

/** What sticks out of the window or of its box, on the page as it stands. */
const outside = (page, selector) =>
  page.$$eval(selector, (list) =>
    list
      .filter((e) => e.offsetWidth > 0)
      .filter((e) => {
        const box = e.getBoundingClientRect();
        return box.left < 0 || box.right > innerWidth + 0.5 || e.scrollWidth > e.clientWidth + 1;
      })
      .map((e) => `${e.className || e.tagName}: ${e.textContent.slice(0, 60)}`),
  );

test('a chip is edited, negated and removed with the keyboard alone, and the focus stays among the chips', () =>
  at('#/settings/audit?status=2xx&status=4xx&actor=user_2ada', async (page) => {
    await auditReady(page);
    await page.focus('.chip-open >> nth=0');
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.activeElement?.matches('.value-panel input'));
    await page.keyboard.press('Escape');
    await page.waitForFunction(() => document.activeElement?.matches('.chip-open'));
    await page.keyboard.press('Enter');
    await page.locator('.chip-deeds >> text="Exclude it instead"').press('Enter');
    await eventually('the negation', () => params(page).get('not_status') === '2xx' && params(page).get('status') === '4xx');
    await page.waitForFunction(() => document.activeElement?.matches('.chip-open'));
    // To the value that is there already: one chip, not two.
    await page.click('.chip:has-text("4xx") .chip-open');
    await page.fill('.value-panel input.mono', '2xx');
    await page.keyboard.press('Enter');
    await eventually('one value', () => params(page).toString() === 'actor=user_2ada&status=2xx' || params(page).toString() === 'status=2xx&actor=user_2ada');
    await page.focus('.chip:has-text("2xx") .chip-open');
    await page.keyboard.press('Delete');
    await eventually('the removal', () => params(page).toString() === 'actor=user_2ada');
    await page.waitForFunction(() => document.activeElement?.matches('.chip-open'));
  }));

test('a view is saved for the team, opened by another, renamed, given another filter and deleted, each by a call', async () => {
  const name = agent('Refused');
  await at('#/settings/audit?status=403&since=24h', async (page) => {
    await auditReady(page);
    await page.click('button:has-text("Saved views")');
    await page.fill('.view-form input', name);
    await page.keyboard.press('Enter');
    await page.waitForSelector(`.saved-views .menu-item[aria-pressed=true]:has-text("${name}")`);
    await told(page, `Saved the view ${name}.`, true);
    // The same name again, and a filter that no call can match.
    await page.fill('.view-form input', name.toUpperCase());
    await page.keyboard.press('Enter');
    await page.waitForSelector('.view-form .form-error:has-text("already")');
    await page.keyboard.press('Escape');
  });
  // Another person, who reads the log and changes nothing.
  await at(
    '#/settings/audit?method=POST&since=7d',
    async (page) => {
      await auditReady(page);
      await page.click('button:has-text("Saved views")');
      await page.waitForSelector('.views-panel:has-text("views:write")');
      assert.equal(await page.locator('.views-panel form, .saved-views .icon-button').count(), 0);
      await page.click(`.saved-views >> text="${name}"`);
      await eventually('the view', () => params(page).toString() === 'status=403&since=24h');
      await auditReady(page);
    },
    { token: s.server.support },
  );
  await at('#/settings/audit?status=5xx', async (page) => {
    await auditReady(page);
    await page.click('button:has-text("Saved views")');
    const change = () => page.click(`button[aria-label="Change ${name}"]`);
    await change();
    await page.click('.view-deeds >> text="Use this filter"');
    await page.waitForSelector(`.saved-views .menu-item[aria-pressed=true]:has-text("${name}")`);
    await change();
    await page.fill('.saved-views input', `${name} now`);
    await page.keyboard.press('Enter');
    await page.waitForSelector(`.saved-views >> text="${name} now"`);
    await page.click(`button[aria-label="Change ${name} now"]`);
    await page.click('.view-deeds >> text="Delete"');
    assert.equal((await s.server.json(s.server.admin, '/v1/views')).views.filter((v) => v.name === `${name} now`).length, 1);
    await page.click('.view-deeds >> text="Delete for everyone"');
    await told(page, `Deleted the view ${name} now.`, true);
    await page.waitForSelector(`.saved-views >> text="${name} now"`, { state: 'detached' });
    const log = await s.server.json(s.server.admin, '/v1/audit-log?route=/v1/views*&not_method=GET&since=1h');
    for (const route of ['POST /v1/views', 'PATCH /v1/views/:id', 'DELETE /v1/views/:id'])
      assert.ok(
        log.rows.some((r) => r.route === route),
        route,
      );
  });
});

test('what the console asks by itself is hidden in sight, and shown on demand; the log has it', () =>
  at('#/profile', async (page) => {
    const begin = new Date().toISOString();
    await page.clock.install();
    const sent = [];
    page.on('request', (r) => /\/v1\/audit-log/.test(r.url()) && sent.push([new URL(r.url()).search, r.headers()['argus-agent'] ?? '']));
    await page.evaluate(() => (location.hash = '#/settings/audit?since=1h'));
    await auditReady(page);
    const opened = sent.slice(0, 2); // the rows and their count; what follows after 15 s the page asks by itself
    assert.ok(opened.length === 2 && opened.every(([query, by]) => by === '' && query.includes('not_agent=console-background')), JSON.stringify(sent));
    sent.length = 0;
    await page.clock.fastForward(20_000);
    await eventually('the page asks by itself', () => sent.length >= 2);
    assert.ok(
      sent.every(([, by]) => by === 'console-background'),
      JSON.stringify(sent),
    );
    await auditReady(page);
    sent.length = 0;
    await page.keyboard.press('r');
    await eventually('the person asks', () => sent.filter(([, by]) => by === '').length >= 2);
    await page.waitForSelector('.chip:has-text("polling hidden")');
    await page.click('button[aria-label="Show the console’s own polling"]');
    await eventually('shown', () => params(page).get('polling') === '1');
    await auditReady(page);
    const found = await s.server.json(s.server.admin, `/v1/audit-log?agent=console-background&since=${begin}`);
    assert.ok(found.rows.length >= 2 && found.rows.some((r) => r.route === 'GET /v1/audit-log'));
    const polled = `tr[data-id="${found.rows.at(-1).id}"]`;
    await page.waitForSelector(polled, { state: 'attached' });
    await page.click('text=Hide the console’s own polling');
    await page.waitForSelector(polled, { state: 'detached' });
    // A figure counts it, so its list has it.
    await page.evaluate(() => (location.hash = '#/performance?by=client&since=1h'));
    await page.waitForSelector('.perf tbody tr');
    assert.ok((await page.$$eval('.perf tbody a.cell-main', (l) => l.map((a) => a.hash))).every((h) => h.includes('polling=1')));
  }));

test('times are shown in UTC or local, which is remembered; what is copied and linked stays UTC', async () => {
  const [id] = await makeCalls(1, agent('zones'));
  const row = await s.server.json(s.server.admin, `/v1/audit-log/${id}`);
  const local = new Date(Date.parse(row.occurred_at) + 5.5 * 3_600_000).toISOString();
  await at(
    `#/settings/audit?id=${id}&row=${id}`,
    async (page) => {
      await page.waitForSelector('.drawer-sentence');
      assert.match(await page.textContent('.log thead .c-time'), /Time \(UTC\)/);
      await page.click('.window-button');
      await page.click('.zones >> text=Local');
      await page.waitForSelector('.log thead .c-time:has-text("UTC+5:30")');
      await page.waitForSelector(`tr[data-id="${id}"]`);
      assert.equal(await page.textContent(`tr[data-id="${id}"] .t-clock`), local.slice(11, 23));
      await page.waitForSelector(`.drawer :text("${local.slice(0, 10)} ${local.slice(11, 19)}")`);
      await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
      await page.click('button[aria-label="Copy as evidence"]');
      const evidence = await eventually('the evidence', () => page.evaluate(() => navigator.clipboard.readText()));
      assert.ok(evidence.includes(row.occurred_at), evidence);
      await page.keyboard.press('Escape');
      await page.click('.window-button');
      assert.match(await page.textContent('.window-form'), /From \(UTC\+5:30\)/);
      await page.fill('.window-form input.mono >> nth=0', '2026-01-01 05:30:00');
      await page.fill('.window-form input.mono >> nth=1', '2026-01-02 12:30 UTC');
      await page.click('text=Show this window');
      await eventually(
        'the window, in UTC',
        () => params(page).get('since') === '2026-01-01T00:00:00Z' && params(page).get('until') === '2026-01-02T12:30:00Z',
      );
      await page.reload();
      await s.server.enter(page, s.server.admin, '#/settings/audit');
      await auditReady(page);
      assert.match(await page.textContent('.log thead .c-time'), /UTC\+5:30/);
      await page.setViewportSize({ width: 1440, height: 900 });
      await page.click('button[aria-label^="Times in UTC+5:30"]');
      await page.waitForSelector('.log thead .c-time:has-text("(UTC)")');
    },
    { timezoneId: 'Asia/Kolkata' },
  );
});

test('columns are chosen, remembered, as wide as what they hold, and never push the route away', async () => {
  const client = agent('columns');
  await s.server.call(s.server.admin, '/v1/tenants/UTD_7ELEVEN_001', { headers: { 'User-Agent': `${client}/1`, 'Argus-Reason': 'printer offline' } });
  await at(`#/settings/audit?client=${client}&since=1h`, async (page) => {
    await page.setViewportSize({ width: 1920, height: 900 });
    await auditReady(page);
    const heads = () => page.$$eval('.log thead th', (l) => l.map((h) => h.textContent.trim().replace(/ [(↑↓].*/, '')));
    assert.deepEqual(await heads(), ['Time', 'Actor', 'Service', 'Route', 'Status', 'Latency', 'Client', 'From']);
    const cut = () => page.$$eval('.log tbody td', (l) => l.filter((c) => c.scrollWidth > c.clientWidth + 1).map((c) => `${c.className}: ${c.textContent}`));
    await none('cut at 1920', cut);
    await page.setViewportSize({ width: 1440, height: 900 });
    await none('cut at 1440', cut);
    await page.setViewportSize({ width: 1920, height: 900 });
    await page.click('button[title="Columns"]');
    for (const label of ['Reason', 'Tenant', 'Release', 'Error']) await page.click(`.columns-panel >> text="${label}"`);
    for (const label of ['Client', 'Service']) await page.click(`.columns-panel >> text="${label}"`);
    await page.keyboard.press('Escape');
    const chosen = ['Time', 'Actor', 'Tenant', 'Release', 'Route', 'Status', 'Error', 'Latency', 'Reason', 'From'];
    const columns = async () => [await heads()].filter((l) => l.join() !== chosen.join());
    await none('the chosen columns', columns);
    assert.equal(await page.textContent('td.c-reason'), 'printer offline');
    assert.equal(await page.textContent('td.c-tenant'), 'UTD_7ELEVEN_001');
    await none('cut with the chosen columns', cut);
    await page.reload();
    await s.server.enter(page, s.server.admin, `#/settings/audit?client=${client}&since=1h`);
    await auditReady(page);
    await none('the chosen columns after a reload', columns);
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: 900 });
      const wide = (least) => document.querySelector('td.c-route').getBoundingClientRect().width >= least;
      await page.waitForFunction(wide, width < 1000 ? 120 : 250, { timeout: 60_000 }).catch(() => assert.fail(`the route has no room at ${width}`));
      if (width < 1000) await page.waitForSelector('.log .sub:has-text("printer offline")');
    }
    await page.setViewportSize({ width: 1280, height: 900 });
    await page.click('button[title="Columns"]');
    await page.waitForSelector('.columns-panel:has-text("no room")');
    await page.click('text=The usual ones');
  });
});

test('steps are a column, also of a live tail, and go into an export; every column of the shared table can be chosen', async () => {
  const client = agent('steps');
  const tenant = 'UTD_7ELEVEN_001';
  const headers = { 'User-Agent': `${client}/1`, 'Content-Type': 'application/json' };
  const post = (what, body) => s.server.call(s.server.admin, `/v1/tenants/${tenant}/${what}`, { method: 'POST', headers, body: JSON.stringify(body) });
  assert.equal((await post('arm', { reason: 'steps', confirm_tenant_id: tenant })).status, 200);
  await at(`#/settings/audit?client=${client}&since=1h&live=1`, async (page) => {
    await page.setViewportSize({ width: 1920, height: 900 });
    await auditReady(page);
    const asked = [];
    page.on('request', (r) => /audit-log(\/stream)?\?/.test(r.url()) && asked.push(new URL(r.url()).searchParams.get('steps')));
    await page.click('button[title="Columns"]');
    await page.waitForSelector('.columns-panel .check');
    const labels = await page.$$eval('.columns-panel .check', (l) => l.map((c) => c.textContent));
    for (const label of ['Tenant', 'Impersonator', 'Credential', 'Scope', 'Parameters', 'Trace', 'Workload', 'Row hash'])
      assert.ok(labels.includes(label), label);
    assert.equal(new Set(labels).size, labels.length);
    for (const label of ['Steps', 'Scope']) await page.click(`.columns-panel >> text="${label}"`);
    await page.keyboard.press('Escape');
    await page.waitForSelector('td.c-steps:has-text("arm succeeded, consent ")');
    await page.waitForSelector('td.c-more:has-text("remote_support:arm")');
    await page.waitForSelector('.live.on.open');
    assert.ok(asked.length >= 2 && asked.every((steps) => steps === 'true'), String(asked));
    assert.equal((await post('disarm', { reason: 'steps' })).status, 200);
    await page.waitForSelector('td.c-steps:has-text("disarm succeeded")');
    const download = page.waitForEvent('download');
    await page.click('button:has-text("Export")');
    await page.click('text=With steps and names');
    await page.click('text=NDJSON');
    const lines = (await readFile(await (await download).path(), 'utf8'))
      .trim()
      .split('\n')
      .map((l) => JSON.parse(l));
    assert.deepEqual(
      lines.map((l) => [l.steps.at(-1).result, l.actor_name, l.tenant]),
      Array(2).fill(['succeeded', 'Ada Okafor', tenant]),
    );
  });
});

test('Esc closes a menu and a drawer from the moment at which they are there', () =>
  at('#/settings/audit?since=24h', async (page) => {
    await auditReady(page);
    for (const [click, panel] of [
      ['button[title="Columns"]', '.columns-panel'],
      ['.window-button', '.window-panel'],
      ['tr[data-id]', '.drawer'],
    ]) {
      await page.evaluate(
        ([click, panel]) =>
          new Promise((there) => {
            // Told in the same turn as the panel is put in, before any frame.
            new MutationObserver((_, self) => {
              if (!document.querySelector(panel)) return;
              self.disconnect();
              document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', bubbles: true, cancelable: true }));
              there();
            }).observe(document.body, { childList: true, subtree: true });
            document.querySelector(click).click();
          }),
        [click, panel],
      );
      await page.waitForSelector(panel, { state: 'detached' });
    }
  }));

test('keys that come faster than frames: what is typed lands in the search that was asked for last', () =>
  at('#/settings/audit?since=24h', async (page) => {
    await auditReady(page);
    const searching = async () => {
      await drawn(page);
      assert.equal(await page.evaluate(() => document.activeElement.id), 'search');
      await page.evaluate(() => document.activeElement.blur());
    };
    await pressAtOnce(page, 'j', '/');
    await searching();
    await page.click('tr[data-id]');
    await page.waitForSelector('.drawer');
    await pressAtOnce(page, 'Escape', '/');
    await searching();
  }));

for (const colorScheme of ['light', 'dark']) {
  test(`menus of the list fit at every width, and are accessible: ${colorScheme}`, () =>
    at(
      '#/settings/audit?status=2xx&not_method=DELETE&since=24h',
      async (page) => {
        await auditReady(page);
        for (const width of WIDTHS) {
          await page.setViewportSize({ width, height: 900 });
          for (const [button, panel] of [
            ['.chip:has-text("DELETE") .chip-open', '.value-panel'],
            ['button:has-text("Saved views")', '.views-panel'],
            ['button[title="Columns"]', '.columns-panel'],
            ['.window-button', '.window-panel'],
            ['button:has-text("Filter") >> visible=true', '.filter-panel'],
          ]) {
            await page.click(button);
            await page.waitForSelector(`${panel} :is(button, input)`);
            await none(`${panel} at ${width}`, () => outside(page, '.popover, .popover input, .popover button'));
            if (width === 375 || width === 1440) await accessible(page, `${panel} at ${width} ${colorScheme}`);
            await page.keyboard.press('Escape');
          }
          await none(`wider than ${width}`, () => tooWide(page));
        }
        assert.ok((await rows(page).count()) > 0);
      },
      { colorScheme },
    ));
}

test('the drawer stands beside what it explains at 1440 and 1920', () =>
  at('#/profile', async (page) => {
    for (const width of [1440, 1920]) {
      await page.setViewportSize({ width, height: 900 });
      for (const [hash, ready] of [
        ['#/tenants?tenant=UTD_7ELEVEN_001', '.drawer dl'],
        ['#/services?service=argus', '.drawer .service-routes'],
        ['#/settings/audit', 'tr[data-id]'],
      ]) {
        await page.evaluate((to) => (location.hash = to), hash);
        await page.waitForSelector(ready);
        if (hash === '#/settings/audit') {
          await auditReady(page);
          await rows(page).nth(1).click();
          await page.waitForSelector('.drawer dl');
        }
        const over = () =>
          page.evaluate(() => {
            const edge = document.querySelector('.drawer').getBoundingClientRect().left;
            return [...document.querySelectorAll('.main :is(h1, button, td, th, a)')]
              .filter((e) => !e.closest('.drawer') && e.offsetWidth > 0 && e.getBoundingClientRect().right > edge + 0.5)
              .map((e) => `${e.tagName} ${e.className}: ${e.textContent.slice(0, 40)}`);
          });
        await none(`${hash} at ${width}`, over);
      }
    }
  }));
