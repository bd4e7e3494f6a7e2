// The states of the log and of Health that other tests bring about, at every width in both themes: no false "no", a call by its id
// with its sentence, steps and consent, a list with steps, a live tail that waits, and what is away. Axe finds nothing, and nothing
// sticks out.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { accessible, agent, at, auditReady, eventually, setup, unheard } from './fixture.mjs';

const s = setup();
const TENANT = 'UTD_7ELEVEN_001';
const WIDTHS = [375, 768, 1440, 1920];

/** Arms and disarms the tenant; the id of the call that armed it. */
async function armed() {
  const post = (what, body) =>
    s.server.call(s.server.admin, `/v1/tenants/${TENANT}/${what}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    });
  const answer = await post('arm', { reason: 'a reason as long as people write them when a printer is offline again', confirm_tenant_id: TENANT });
  assert.equal(answer.status, 200);
  assert.equal((await post('disarm', { reason: 'done' })).status, 200);
  return answer.headers.get('argus-audit-id');
}

const since = new Date(Date.now() - 90_000).toISOString();
const away = {
  error: { code: 'unavailable', message: 'Postgres is away.', audit_id: null },
  health: { status: 'down', ready: false, stages: ['postgres', 'writer', 'clickhouse'].map((name, i) => ({ name, status: i === 2 ? 'ok' : 'down', since })) },
};

for (const colorScheme of ['light', 'dark']) {
  test(`${colorScheme}: what people meet seldom fits every width and is accessible`, async () => {
    const id = await armed();
    const states = [
      ['no such actor', '#/settings/audit?actor=adaa', '.unknown-value:has-text("Did you mean")'],
      ['no such client, which may come', `#/settings/audit?client=${agent('never')}`, '.unknown-value:has-text("Wait for the first such call")'],
      ['a tail that waits', `#/settings/audit?release=${agent('v9')}&live=1`, '.empty:has-text("Waiting for the first such call")'],
      ['a call by its id', `#/settings/audit?id=${id}&row=${id}`, '.drawer .steps .fact:has-text("Consent")'],
      ['a list with steps', `#/settings/audit?id=${id}`, '.log .sub:has-text("arm succeeded"), td.c-steps:has-text("arm succeeded")'],
      ['Health while Postgres is away', '#/health', '.stage:has-text("Postgres") >> text=/^Since \\d{4}-/'],
    ];
    await at(
      '#/profile',
      async (page) => {
        await page.evaluate(() => localStorage.setItem('argus.columns', 'actor_id,steps,reason,impersonator_id,scope'));
        await page.reload();
        await s.server.enter(page, s.server.admin, '#/profile');
        for (const [what, hash, ready] of states) {
          if (hash === '#/health') await page.route('**/v1/health', (route) => route.fulfill({ status: 503, json: away }));
          await page.evaluate((to) => (location.hash = to), hash);
          if (hash.includes('id=')) await auditReady(page);
          for (const width of WIDTHS) {
            await page.setViewportSize({ width, height: 900 });
            if (/unknown-value|Waiting/.test(ready)) await unheard(page, ready);
            await page.locator(ready).first().waitFor({ state: 'attached' });
            // The page lays itself out anew after the window has its width.
            const fits = () => {
              const main = document.querySelector('.main');
              return main.scrollWidth <= main.clientWidth && document.documentElement.scrollWidth <= innerWidth;
            };
            await page.waitForFunction(fits, null, { timeout: 60_000 }).catch(() => assert.fail(`${what}: wider than the window at ${width}`));
            await accessible(page, `${what}, ${width} ${colorScheme}`);
          }
        }
      },
      { colorScheme },
    );
  });
}

for (const colorScheme of ['light', 'dark']) {
  test(`${colorScheme}: what is shown stays readable while the answer to the next search is on its way`, async () => {
    const searches = [
      ['#/settings/audit', 'status=2xx', '**/v1/audit-log?*', ['.log-area']],
      ['#/performance', 'status=2xx', '**/v1/perf?*', ['.table-wrap']],
      ['#/performance/route?route=GET%20/v1/operators/me&since=1h&differs=slow&before=1', 'since=3h', '**/v1/perf/**', ['.charts', '.differs']],
    ];
    await at(
      '#/profile',
      async (page) => {
        for (const [hash, change, question, areas] of searches) {
          await page.evaluate((to) => (location.hash = to), hash);
          for (const area of areas) await page.waitForSelector(`${area}:not(.pending)`);
          if (areas.includes('.log-area')) await auditReady(page);
          let held = true;
          await page.route(question, async (route) => {
            await eventually('the answer is let through', () => !held, 120_000);
            await route.continue();
          });
          await page.evaluate(([from, to]) => (location.hash = from.includes('?') ? from.replace(/since=1h/, to) : `${from}?${to}`), [hash, change]);
          for (const area of areas) await page.waitForSelector(`${area}.pending`);
          await accessible(page, `${areas.join(', ')} wait, ${colorScheme}`);
          for (const area of areas) assert.equal(await page.locator(`${area}.pending`).count(), 1, `${area} waits while it is looked at`);
          held = false;
          for (const area of areas) await page.waitForSelector(`${area}:not(.pending)`);
          await page.unroute(question);
        }
      },
      { colorScheme },
    );
  });
}
