// Pictures of every page in both themes, into build-screens/, to be looked at.
import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { launch, server } from './harness.mjs';

const out = fileURLToPath(new URL('../build-screens/', import.meta.url));
await mkdir(out, { recursive: true });
const only = process.argv.slice(2);

const PAGES = [
  ['sign-in', null, null],
  ['tenants', '#/tenants', 'table'],
  ['tenant', '#/tenants?tenant=UTD_QUICKSTOP_003', '.drawer dl'],
  ['arm', '#/tenants', 'table', async (page) => page.click('button[aria-label^="Arm "]')],
  ['services', '#/services', 'table'],
  ['service', '#/services?service=sample', '.drawer .service-routes'],
  ['tenant-add', '#/tenants', 'table', async (page) => page.click('button:has-text("Add")')],
  ['tenants-retired', '#/tenants?retired=1', 'table'],
  ['compute', '#/compute', 'table, .empty'],
  ['worker', '#/compute', 'table', async (page) => page.locator('a.cell-main').first().click()],
  ['launch', '#/compute', 'table', async (page) => page.click('text=Launch >> visible=true')],
  ['support', '#/support', 'table, .empty'],
  ['health', '#/health', '.stages'],
  ['audit', '#/settings/audit', 'tr[data-id]'],
  ['audit-filtered', '#/settings/audit?status=4xx&status=5xx&not_client=argusctl&since=7d', 'tr[data-id]'],
  [
    'audit-search',
    '#/settings/audit',
    'tr[data-id]',
    async (page) => {
      await page.keyboard.press('/');
      await page.keyboard.type('status:5xx an');
      await page.waitForSelector('.choices');
    },
  ],
  [
    'audit-drawer',
    '#/settings/audit?method=POST&since=7d',
    'tr[data-id]',
    async (page) => {
      await page.locator('tr[data-id]').nth(2).click();
      await page.waitForSelector('.drawer .steps, .drawer dl');
      await page.waitForTimeout(300);
    },
  ],
  [
    'audit-filter-menu',
    '#/settings/audit',
    'tr[data-id]',
    async (page) => {
      await page.click('button:has-text("Filter")');
      await page.click('.popover >> text=Route');
      await page.waitForSelector('.values .menu-item');
    },
  ],
  ['audit-window', '#/settings/audit', 'tr[data-id]', async (page) => page.click('.window-button')],
  ['audit-empty', '#/settings/audit?route=/nowhere', '.empty'],
  ['audit-unreadable', '#/settings/audit?since=yesterday&colour=red&status=5xx', '.unreadable'],
  ['performance', '#/performance?since=24h', '.perf tbody tr .spark path'],
  ['performance-release', '#/performance?since=24h&by=release', '.perf tbody tr .spark path'],
  ['performance-service', '#/performance?since=24h&by=service', '.perf tbody tr .spark path'],
  [
    'audit-service-drawer',
    '#/settings/audit?service=billing&method=POST&since=7d',
    'tr[data-id]',
    async (page) => {
      await page.locator('tr[data-id]').nth(1).click();
      await page.waitForSelector('.drawer dl');
      await page.waitForTimeout(300);
    },
  ],
  [
    'route',
    '#/performance/route?route=GET%20/v1/tenants&since=24h',
    '.u-over',
    async (page) => {
      await page.hover('.u-over >> nth=0', { position: { x: 300, y: 80 } });
    },
  ],
  ['tokens', '#/settings/tokens', 'table, .empty'],
  ['tokens-all', '#/settings/tokens?owner=all&ended=1', 'table'],
  [
    'tokens-revoke',
    '#/settings/tokens',
    'table',
    async (page) => {
      await page.click('button[aria-label="Revoke ci pipeline"]');
      await page.waitForSelector('.token-names');
    },
  ],
  [
    'tokens-owner',
    '#/settings/tokens?owner=user_2bBenOkafor9Rt',
    'table',
    async (page) => {
      await page.click('text=Revoke all of');
      await page.waitForSelector('.token-names');
    },
  ],
  ['tokens-found', '#/settings/tokens', 'table', async (page) => page.click('text="Revoke by secret"')],
  ['token-new', '#/settings/tokens?new=1&name=ci', 'dialog'],
  ['token-agent', '#/settings/tokens?new=1&agent=claude-code', 'dialog'],
  ['access', '#/settings/access', 'table'],
  ['sinks', '#/sinks', 'table'],
  ['sink', '#/sinks?sink=shipped', '.drawer dl'],
  ['profile', '#/profile', 'dl'],
  ['shortcuts', '#/tenants', 'table', async (page) => page.keyboard.press('?')],
];

const s = await server();
const browser = await launch();
for (const [theme, width, height] of [
  ['light', 1280, 800],
  ['dark', 1280, 800],
  ['light', 390, 844],
  ['dark', 390, 844],
]) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme, reducedMotion: 'reduce' });
  const page = await context.newPage();
  page.on('console', (m) => m.type() === 'error' && console.log(`${theme} ${width}: ${m.text()}`));
  page.on('pageerror', (e) => console.log(`${theme} ${width}: ${e.message}`));
  for (const [name, hash, wait, act] of PAGES) {
    if (only.length > 0 && !only.some((o) => name.startsWith(o))) continue;
    try {
      if (hash === null) {
        await page.goto(s.url);
        await page.waitForSelector('.sign-in');
      } else {
        await page.goto('about:blank');
        await s.enter(page, s.admin, hash);
        await page.waitForSelector(wait, { timeout: 8000 });
        await page.waitForTimeout(250);
        await act?.(page);
        await page.waitForTimeout(200);
      }
    } catch (cause) {
      console.log(`${name}: ${cause.message.split('\n')[0]}`);
    }
    await page.screenshot({ path: `${out}${name}-${theme}-${width}.png` });
  }
  await context.close();
}
await browser.close();
await s.close();
