// What the console says when something is away. Most answers are changed on their way to the browser; where the
// server is our own, ClickHouse is held up in earnest.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { at, auditReady, eventually, rows, setup, withPage } from './fixture.mjs';

const s = setup();

async function changed(page, pattern, change) {
  await page.route(pattern, async (route) => {
    const answer = await route.fetch();
    const body = await answer.json();
    Object.assign(body, change(body));
    await route.fulfill({ response: answer, json: body });
  });
}

test('Postgres answers instead of ClickHouse: said on the audit page and on performance', () =>
  at('', async (page) => {
    await changed(page, /\/v1\/(audit-log(\/facets)?|perf(\/series)?)\?/, () => ({ source: 'postgres', replicated_through: null }));
    await page.evaluate(() => (location.hash = '#/settings/audit'));
    await page.waitForSelector('.notice:has-text("Postgres answers instead of ClickHouse")');
    assert.ok((await auditReady(page)) > 0);
    await page.evaluate(() => (location.hash = '#/performance'));
    await page.waitForSelector('.notice:has-text("Postgres answers instead of ClickHouse")');
    await page.waitForSelector('.perf tbody tr');
  }));

test('the copy lags: said when it stays so, with the time it has reached', () =>
  at('', async (page) => {
    await changed(page, /\/v1\/audit-log(\/facets)?\?/, () => ({
      source: 'clickhouse+postgres',
      replicated_through: new Date(Date.now() - 240_000).toISOString().replace('Z', '000Z'),
    }));
    await page.evaluate(() => (location.hash = '#/settings/audit'));
    await auditReady(page);
    await page.keyboard.press('r');
    await page.waitForSelector('.notice:has-text("lags 4m")');
  }));

test('the server away: the last good data stays, the page says how old it is and comes back by itself', () =>
  at('#/tenants', async (page) => {
    await page.waitForSelector('table.list tbody tr');
    const before = await page.locator('table.list tbody tr').count();
    let away = true;
    await page.route('**/v1/**', (route) => (away ? route.abort() : route.continue()));
    await page.keyboard.press('r');
    await page.waitForSelector('.notice:has-text("ARGUS cannot be reached")');
    assert.equal(await page.locator('table.list tbody tr').count(), before);
    away = false;
    await page.waitForSelector('.notice', { state: 'detached' });
  }));

test('a call that has no answer: the page looks why, and says it before it gives the call up', () =>
  at('#/tenants', async (page) => {
    await page.waitForSelector('table.list tbody tr');
    let hangs = true;
    const health = { status: 'down', ready: false, stages: [{ name: 'postgres', status: 'down', since: new Date().toISOString() }] };
    await page.route('**/v1/tenants', (route) => (hangs ? undefined : route.continue()));
    await page.route('**/v1/health', (route) => (hangs ? route.fulfill({ status: 503, json: { health } }) : route.continue()));
    await page.keyboard.press('r');
    await page.waitForSelector('.notice:has-text("Postgres is away since")');
    hangs = false;
    await page.waitForSelector('.notice', { state: 'detached' });
  }));

test('an error of the server on the log: rows stay; an empty page names the code and the audit id', () =>
  at('#/settings/audit', async (page) => {
    await auditReady(page);
    const before = await rows(page).count();
    let broken = true;
    await page.route('**/v1/audit-log**', (route) =>
      broken
        ? route.fulfill({
            status: 503,
            headers: { 'Retry-After': '1' },
            json: { error: { code: 'unavailable', message: 'The log could not be read in time.', audit_id: '0198c9a2-5f44-7aaa-8bbb-0123456789ab' } },
          })
        : route.continue(),
    );
    await page.keyboard.press('r');
    await page.waitForSelector('.notice:has-text("could not be refreshed")');
    assert.ok((await rows(page).count()) >= before);
    broken = false;
    await page.keyboard.press('r');
    await page.waitForSelector('.notice', { state: 'detached' });
    broken = true;
    await page.click('nav >> text=Tenants');
    await page.waitForSelector('h1:has-text("Tenants")');
    await page.click('nav >> text="Audit log"');
    await page.waitForSelector('.failure');
    assert.match(await page.textContent('.failure'), /could not be read in time.*unavailable.*0198c9a2/s);
    broken = false;
    await page.click('.failure >> text=Try again');
    await eventually('the rows', async () => (await rows(page).count()) > 0);
  }));

if (Number(process.env.ARGUS_PID_CLICKHOUSE)) {
  test('ClickHouse held up: the log goes on from Postgres, and says so until it is back', () =>
    at('#/settings/audit', async (page) => {
      await auditReady(page);
      const clickhouse = Number(process.env.ARGUS_PID_CLICKHOUSE);
      process.kill(clickhouse, 'SIGSTOP');
      try {
        await page.keyboard.press('r');
        await page.waitForSelector('.notice:has-text("Postgres answers instead of ClickHouse")', { timeout: 60_000 });
        assert.ok((await rows(page).count()) > 0);
        await page.goto(page.url().replace('#/settings/audit', '#/health'));
        await page.waitForSelector('.stage:has-text("ClickHouse") >> text=/down|degraded/', { timeout: 60_000 });
      } finally {
        process.kill(clickhouse, 'SIGCONT');
      }
      await page.goto(page.url().replace('#/health', '#/settings/audit'));
      await auditReady(page);
      // Each search is waited for: the next one would break it off.
      await eventually('the banner to go', async () => {
        await page.keyboard.press('r');
        await auditReady(page);
        return (await page.locator('.notice').count()) === 0;
      });
    }));
}

if (Number(process.env.ARGUS_PID_POSTGRES)) {
  test('Postgres held up: every page names it and since when, Health shows the parts, nothing goes blank, and it comes back by itself', () =>
    at('#/settings/audit', async (page) => {
      await auditReady(page);
      const postgres = process.env.ARGUS_PID_POSTGRES;
      const sessions = () => [postgres, ...execFileSync('pgrep', ['-P', postgres]).toString().trim().split('\n')].map(Number);
      const send = (pid, signal) => {
        try {
          process.kill(pid, signal);
        } catch (cause) {
          if (cause.code !== 'ESRCH') throw cause; // a session may just have ended
        }
      };
      const held = [Number(postgres)];
      const banner = '.notice:has-text("Postgres is away since")';
      try {
        send(held[0], 'SIGSTOP'); // it has no further child then
        held.push(...sessions());
        for (const pid of held) send(pid, 'SIGSTOP');
        await page.keyboard.press('r');
        await page.waitForSelector(banner, { timeout: 180_000 }); // a call that hangs is given up after half a minute
        assert.ok((await rows(page).count()) > 0);
        for (const place of ['Tenants', 'Performance', 'Tokens', 'Health']) {
          await page.click(`nav >> text="${place}"`);
          await page.waitForSelector(`h1:has-text("${place}")`);
          await page.waitForSelector(banner);
        }
        await page.waitForSelector('.stage:has-text("Postgres") >> text=/^Since \\d{4}-/');
        assert.equal(await page.textContent('.stage:has-text("Postgres") .pill-state'), 'down');
        // Who is not signed in, and cannot be now, is told as well.
        await withPage({}, async (second) => {
          await second.goto(s.server.url);
          await second.click('.paste summary');
          await second.fill('.paste input', s.server.admin);
          await second.click('.paste button[type=submit]');
          await second.waitForSelector(banner, { timeout: 180_000 });
        });
      } finally {
        for (const pid of held) send(pid, 'SIGCONT');
      }
      await page.waitForSelector(banner, { state: 'detached', timeout: 180_000 });
      await page.waitForSelector('.stage:has-text("Replicator")', { timeout: 60_000 });
    }));
}
