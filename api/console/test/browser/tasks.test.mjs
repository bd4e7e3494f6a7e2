// The ten questions of docs/tour.md, each answered as a new user would, from the page on which the console opens. The number of
// steps is what the table there says: a press, or a text that is typed and entered.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { agent, at, auditReady, eventually, makeCalls, setup } from './fixture.mjs';

const s = setup();
const TENANT = 'UTD_7ELEVEN_001';
const post = async (path, body, token = s.server.admin) => {
  const answer = await s.server.call(token, path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) });
  return { status: answer.status, body: await answer.json() };
};

/** The column of the table, by question. */
const tour = await readFile(new URL('../../../../docs/tour.md', import.meta.url), 'utf8');
const steps = new Map([...tour.matchAll(/^\| ([^|]+\?) \|[^|]*\|[^|]*\((\d+)\) \|/gm)].map((m) => [m[1], Number(m[2])]));

function task(question, run) {
  test(question, () =>
    at('#/tenants', async (page) => {
      await page.setViewportSize({ width: 1440, height: 900 });
      await page.waitForSelector('table.list');
      let done = 0;
      const press = async (what) => {
        done++;
        await page.click(what);
      };
      const enter = async (where, text) => {
        done++;
        await page.fill(where, text);
        await page.press(where, 'Enter');
      };
      await run(page, { press, enter, open: (name) => press(`.rail a:has-text("${name}")`) });
      assert.equal(done, steps.get(question), 'the number of steps in docs/tour.md');
    }),
  );
}

task('Who armed a tenant, and on whose consent?', async (page, { press }) => {
  assert.equal((await post(`/v1/tenants/${TENANT}/arm`, { reason: 'printer offline', confirm_tenant_id: TENANT })).status, 200);
  assert.equal((await post(`/v1/tenants/${TENANT}/disarm`, { reason: 'done' })).status, 200);
  await press(`tr:has-text("${TENANT}") .cell-main`);
  await press('.drawer >> text="Its calls"');
  await press('.view:has-text("Changes")');
  await press('tr[data-id]:has-text("/arm"):has(.status:text-is("200")) >> nth=0');
  await page.waitForSelector(`.drawer-sentence:has-text("Ada Okafor armed ${TENANT}: printer offline")`);
  await page.waitForSelector('.drawer .steps .fact:has-text("Consent"):has-text("DOC-")');
});

task('What got slower since ten, and for whom?', async (page, { press, enter, open }) => {
  await makeCalls(10, agent('slower'));
  await open('Performance');
  await press('.window-button');
  await enter('.window-form input >> nth=0', '1h');
  await press('.perf th button:has-text("Regression")');
  await press('.perf tbody .cell-main >> nth=0');
  await press('button:text-is("Slow")');
  await page.waitForSelector('.differs .differs-about');
});

task('Which calls of Grace were refused today?', async (page, { press, enter, open }) => {
  await open('Audit log');
  await press('.view:has-text("Refused")');
  await enter('#search', 'actor:"Grace Lindqvist" since:today');
  await page.waitForSelector('.chip:has-text("Grace Lindqvist")');
  // From here on it is today, also when midnight has just passed.
  assert.equal((await post(`/v1/tenants/${TENANT}/arm`, { reason: 'no', confirm_tenant_id: TENANT }, s.server.support)).status, 403);
  await page.click('button[aria-label="Refresh"]');
  await eventually('her calls', async () => (await auditReady(page)) > 0);
  assert.deepEqual([...new Set(await page.$$eval('tr[data-id] .status', (l) => l.map((e) => e.textContent)))], ['403']);
});

task('What did break-glass do?', async (page, { press, open }) => {
  await open('Audit log');
  await press('button:has-text("Filter") >> visible=true');
  await press('.filter-panel >> text="Break-glass"');
  await press('.window-button');
  await press('.window-panel >> text="Whole log"');
  await page.waitForSelector('.chip:has-text("break")');
  await auditReady(page);
});

task('Who made this token, and when did it end?', async (page, { press, open }) => {
  const name = agent('ended');
  const made = await post('/v1/tokens', { name, scopes: ['tenants:read'], expires_in: '1h' });
  assert.equal(made.status, 201);
  await s.server.call(s.server.admin, `/v1/tokens/${made.body.token?.id ?? made.body.id}`, { method: 'DELETE' });
  await open('Tokens');
  await press('.check:has-text("Ended ones too")');
  await page.waitForSelector(`tr.over:has-text("${name}"):has-text("revoked")`);
  await press(`tr:has-text("${name}") >> text="creation"`);
  await page.waitForSelector('tr[data-id]:has-text("/v1/tokens")');
});

task('What happened around this call?', async (page, { press, open }) => {
  const client = agent('around');
  const ids = await makeCalls(3, client);
  await open('Audit log');
  await auditReady(page);
  await press(`tr[data-id="${ids[1]}"]`);
  await press('.drawer >> text="Around it"');
  await page.waitForFunction(() => new URLSearchParams(location.hash.split('?')[1]).get('until'));
  await auditReady(page);
  for (const id of ids) await page.waitForSelector(`tr[data-id="${id}"]`, { state: 'attached' });
  await page.waitForSelector(`tr.open[data-id="${ids[1]}"]`, { state: 'attached' });
});

task('Is the log complete and sealed?', async (page, { open }) => {
  await open('Health');
  await page.waitForSelector('.ledger-card:has-text("Newest checkpoint"):has-text("leaves"):has-text("age")');
});

task('What did we do for this tenant this month?', async (page, { press }) => {
  await press(`tr:has-text("${TENANT}") .cell-main`);
  await press('.drawer >> text="Its calls"');
  await press('.window-button');
  await press('.window-panel >> text="Last 30 days"');
  const count = await eventually('calls', async () => (await auditReady(page)) || false);
  await press('button:has-text("Export")');
  const download = page.waitForEvent('download');
  await press('text=CSV, for spreadsheets');
  assert.ok((await readFile(await (await download).path(), 'utf8')).trim().split('\n').length > count - 1);
});

task('Which worker was launched by whom?', async (page, { press, open }) => {
  const worker = (await post('/compute/ops/launch', { provider: 'local', reason: 'tour' })).body;
  const id = worker.worker?.id ?? worker.id;
  await open('Compute');
  await press('.check:has-text("Terminated too")');
  await page.waitForSelector(`tr:has-text("${id}"):has-text("Ada Okafor")`);
  await post(`/compute/ops/workers/${id}/terminate`, { reason: 'tour', confirm_worker_id: id });
});

task('Is everything well, and since when not?', async (page, { open }) => {
  await open('Health');
  await page.waitForSelector('h1:has-text("All stages work"), h1:has-text("since")');
});
