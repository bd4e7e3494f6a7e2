// Accessibility by axe, on every page in both themes; nothing sticks out at 1280 and 390 pixels; nothing jumps.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { accessible, auditReady, setup, shared, withPage } from './fixture.mjs';

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
        await page.waitForTimeout(150);
        if (deep) await accessible(page, place);
        const over = await page.evaluate(() => {
          const main = document.querySelector('.main');
          return [document.documentElement.scrollWidth - innerWidth, main.scrollWidth - main.clientWidth];
        });
        assert.ok((await page.locator('.skip').boundingBox()).y < -30, 'the way past the rail shows only when it has the focus');
        assert.deepEqual(
          over.map((n) => Math.max(0, n)),
          [0, 0],
          `${place} is wider than its window`,
        );
      }
      await page.evaluate(() => (location.hash = '#/settings/audit'));
      await auditReady(page);
      await page.locator('tr[data-id]').nth(1).click();
      await page.waitForSelector('.drawer dl');
      await page.waitForTimeout(300);
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
