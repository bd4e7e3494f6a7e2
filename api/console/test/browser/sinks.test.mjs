// The page of sinks: a folder that argusd dev ships to, and the states that a sink can be in.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { accessible, at, none, setup, tooWide } from './fixture.mjs';

const s = setup();

test('sinks: paused, resumed, tested and backfilled, each as a call of the log', () =>
  at('#/sinks', async (page) => {
    const row = page.locator('tr:has(a:text-is("shipped"))');
    await row.locator('text=/Up to date|Shipping/').waitFor();
    await row.locator('a').click();
    const drawer = page.locator('.drawer');
    await drawer.locator('button:text-is("Pause")').click();
    await row.locator('text=Paused').waitFor();
    await drawer.locator('button:text-is("Resume")').click();
    await row.locator('text=/Up to date|Shipping/').waitFor();
    await drawer.locator('button:text-is("Test")').click();
    await drawer.locator('text=The receiver takes batches.').waitFor();
    await drawer.locator('button:text-is("Backfill")').click();
    await page.fill('dialog input', 'the day before');
    await page.click('dialog button[type=submit]');
    await page.waitForSelector('dialog .form-error, dialog .notice');
    await page.fill('dialog input', '1h');
    const [sent] = await Promise.all([page.waitForRequest((r) => r.url().endsWith('/backfill')), page.click('dialog button[type=submit]')]);
    assert.ok(sent.headers()['idempotency-key']);
    await page.waitForSelector('dialog', { state: 'detached' });
    await drawer.locator('text=/Done: since/').waitFor({ timeout: 60_000 });
    const { rows } = await (await s.server.call(s.server.admin, '/v1/audit-log?since=10m&route=POST%20/v1/sinks*&limit=100')).json();
    for (const verb of ['pause', 'resume', 'test', 'backfill']) assert.ok(rows.some((r) => r.route === `POST /v1/sinks/:name/${verb}`, `no row of ${verb}`));
  }));

const ago = (seconds) => new Date(Date.now() - seconds * 1000).toISOString();
const sink = (name, state, more) => ({
  sink: name,
  type: 'https',
  target: `${name}.example.com/ingest/of/the/audit/log/of/a/company/with/a/long/name`,
  format: 'argus',
  filter: '',
  state,
  host: 'ship-1/4711',
  lag_rows: 0,
  lag_seconds: 0,
  rows_per_second: 0,
  rows: 12_345_678,
  acknowledged_at: ago(3),
  last_error: null,
  error_at: null,
  next_retry_at: null,
  retention_at: null,
  rejected_rows: 0,
  paused_by: null,
  paused_at: null,
  newest: { batch: '000000004711-7f127cda5caeb625' },
  backfills: [],
  ...more,
});
const sinks = () => [
  sink('archive', 'idle'),
  sink('lake', 'shipping', {
    type: 's3',
    rows_per_second: 51_234.5,
    lag_rows: 1_234_567,
    lag_seconds: 24.2,
    backfills: [backfill(2, 'running', 5_000_000), backfill(1, 'failed', 10)],
  }),
  sink('siem', 'retrying', {
    lag_rows: 987_654_321,
    lag_seconds: 90_061,
    last_error: `the receiver answered 503: ${'x'.repeat(150)}`,
    error_at: ago(20),
    next_retry_at: ago(-40),
    rejected_rows: 32,
  }),
  sink('old-collector', 'paused', { lag_rows: 5, lag_seconds: 1e6, paused_by: 'user_2ada', paused_at: ago(1e6), retention_at: ago(-3 * 86_400) }),
  sink('gone', 'down'),
  sink('a-name-that-is-as-long-as-it-can', 'undeclared', { acknowledged_at: null, newest: null }),
];

function backfill(id, state, rows) {
  return {
    id,
    since: ago(30 * 86_400),
    state,
    rows,
    shipped: Math.floor(rows / 3),
    error: state === 'failed' ? 'it broke' : null,
    asked_by: 'user_2ada',
    asked_at: ago(60),
    finished_at: null,
  };
}

for (const width of [375, 768, 1280, 1920])
  for (const theme of ['light', 'dark'])
    test(`sinks in every state, ${theme}, ${width} wide: told, accessible, and nothing sticks out`, () =>
      at(
        '#/health',
        async (page) => {
          await page.route('**/v1/sinks', (route) => route.fulfill({ json: { sinks: sinks() } }));
          for (const [hash, ready] of [['#/sinks', 'table'], ...sinks().map((s) => [`#/sinks?sink=${s.sink}`, '.drawer dl'])]) {
            await page.evaluate((hash) => (location.hash = hash), hash);
            await page.waitForSelector(ready);
            await none(`${hash} sticks out`, () => tooWide(page));
            if ((width === 375 || width === 1280) && /sinks$|lake|old/.test(hash)) await accessible(page, hash);
          }
          const text = await page.textContent('.main');
          for (const said of ['(6 · 2 not shipping)', 'Next try in', 'rows leave soon', 'No process ships to it', 'No file names it any more'])
            assert.ok(text.includes(said), `${said}: ${text}`);
        },
        { viewport: { width, height: 900 }, colorScheme: theme },
      ));

test('without sinks:write nothing can be changed, and without logs:read there is no page', async () => {
  const made = await s.server.call(s.server.admin, '/v1/tokens', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ name: `reader ${Date.now()}`, scopes: ['logs:read'], expires_in: '1h' }),
  });
  const { secret } = await made.json();
  await at(
    '#/sinks?sink=shipped',
    async (page) => {
      await page.waitForSelector('.drawer dl');
      assert.equal(await page.locator('.drawer button:text-is("Pause")').count(), 0);
    },
    { token: secret },
  );
  await at('#/services', async (page) => assert.equal(await page.locator('.rail a:has-text("Sinks")').count(), 0), { token: s.server.tenants });
});
