// Accessibility by axe, on every page in both themes; nothing sticks out at 1280 and 390 pixels; nothing jumps.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { accessible, auditReady, none, setup, shared, still, tooWide, withPage } from './fixture.mjs';

setup();
const PLACES = [
  ['#/tenants', 'table'],
  ['#/tenants?tenant=UTD_7ELEVEN_001', '.drawer dl'],
  ['#/services', 'table'],
  ['#/services?service=argus', '.drawer .service-routes'],
  ['#/compute', 'table, .empty'],
  ['#/support', 'table, .empty'],
  ['#/health', '.stages'],
  ['#/sinks', 'table'],
  ['#/sinks?sink=shipped', '.drawer dl'],
  ['#/settings/audit?status=2xx&not_method=DELETE', 'tr[data-id]'],
  ['#/performance?since=24h', '.perf tbody tr'],
  ['#/performance/route?route=GET%20/v1/operators/me&since=24h', '.chart .u-over'],
  ['#/settings/tokens', 'table, .empty'],
  ['#/settings/tokens?new=1', 'dialog'],
  ['#/settings/access?unused=1', 'table'],
  ['#/profile', 'dl'],
];

for (const [theme, width, height] of [
  ['light', 1280, 800],
  ['dark', 1280, 800],
  ['light', 390, 844],
  ['dark', 390, 844],
]) {
  test(`${theme}, ${width} wide: accessible, and nothing sticks out`, () =>
    withPage({ viewport: { width, height }, colorScheme: theme }, async (page) => {
      await page.goto(shared.server.url);
      await page.waitForSelector('.sign-in');
      await accessible(page, 'sign-in');
      await shared.server.enter(page, shared.server.admin, '#/profile');
      const deep = width > 1000 || theme === 'light'; // the fourth combination would find nothing new
      for (const [place, ready] of PLACES) {
        await page.evaluate((hash) => (location.hash = hash), place);
        await page.waitForSelector(ready);
        await still(page);
        if (deep) await accessible(page, place);
        assert.ok((await page.locator('.skip').boundingBox()).y < -30, 'the way past the rail shows only when it has the focus');
        await none(`${place} is wider than its window`, () => tooWide(page));
      }
      await page.evaluate(() => (location.hash = '#/settings/audit'));
      await auditReady(page);
      await page.locator('tr[data-id]').nth(1).click();
      await page.waitForSelector('.drawer dl');
      await still(page);
      await accessible(page, 'the drawer of a call');
      await page.keyboard.press('Escape');
      if (width > 1000) {
        await page.keyboard.press('/');
        await page.waitForSelector('.choices');
        await accessible(page, 'completion');
      }
    }));
}

test('the audit page does not jump while it fills', () =>
  withPage({}, async (page) => {
    await shared.server.enter(page, shared.server.admin, '#/profile');
    // A busy machine's Postgres may answer in place of ClickHouse, and a notice says so above the rows.
    await page.route(/\/v1\/audit-log(\/facets)?\?/, async (route) => {
      const answer = await route.fetch();
      await route.fulfill({ response: answer, json: { ...(await answer.json()), source: 'clickhouse' } });
    });
    await page.evaluate(() => {
      window.shift = 0;
      new PerformanceObserver((list) => {
        for (const e of list.getEntries()) if (!e.hadRecentInput) window.shift += e.value;
      }).observe({ type: 'layout-shift', buffered: false });
      location.hash = '#/settings/audit';
    });
    await auditReady(page);
    await page.waitForTimeout(500);
    const shift = await page.evaluate(() => window.shift);
    assert.ok(shift < 0.05, `cumulative layout shift ${shift}`);
  }));

test('the theme follows the system, and the choice is kept', () =>
  withPage({ colorScheme: 'dark' }, async (page) => {
    await shared.server.enter(page, shared.server.admin, '#/profile');
    const theme = () => page.evaluate(() => document.documentElement.dataset.theme);
    assert.equal(await theme(), 'dark');
    await page.selectOption('#theme', 'light');
    assert.equal(await theme(), 'light');
    await page.reload();
    await page.waitForSelector('.sign-in');
    assert.equal(await theme(), 'light');
  }));
