import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { agent, at, auditReady, drawn, eventually, makeCalls, rows, scrollToEnd, setup, shownIds, still, unheard } from './fixture.mjs';

const s = setup();
const hashOf = (page) => new URL(page.url()).hash;
const params = (page) => new URLSearchParams(hashOf(page).split('?')[1]);

test('the search box: names complete from what the log holds, and become chips', () =>
  at('#/settings/audit', async (page) => {
    await auditReady(page);
    await page.keyboard.press('/');
    await page.waitForFunction(() => document.activeElement?.id === 'search');
    await page.keyboard.type('stat');
    await page.waitForSelector('.choices li:has-text("status:")');
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    assert.equal(await page.inputValue('#search'), 'status:');
    await page.keyboard.type('2xx -method:');
    await page.waitForSelector('.choices li:has-text("POST")');
    await page.keyboard.type('POST route:"GET /v1/operators/me"');
    await page.keyboard.press('Enter');
    await eventually('the chips', async () => (await page.locator('.chip-open').count()) === 3);
    assert.deepEqual(
      [...params(page)],
      [
        ['status', '2xx'],
        ['not_method', 'POST'],
        ['route', 'GET /v1/operators/me'],
      ],
    );
    await auditReady(page);
    const routes = new Set(await page.$$eval('a.route', (l) => l.map((a) => a.title)));
    assert.deepEqual([...routes], ['GET /v1/operators/me']);

    // a chip negated from its menu, edited, removed; then back through the history
    await page.click('.chip:has-text("GET /v1/operators/me") .chip-open');
    await page.click('.popover >> text="Exclude it instead"');
    await eventually('the negation', () => params(page).get('not_route') === 'GET /v1/operators/me');
    await auditReady(page);
    assert.ok(!(await page.$$eval('a.route', (l) => l.map((a) => a.title))).includes('GET /v1/operators/me'));
    await page.click('.chip:has-text("2xx") .chip-open');
    const value = page.locator('.value-panel input.mono');
    assert.equal(await value.inputValue(), '2xx');
    await value.fill('banana');
    assert.match(await page.textContent('.value-panel .form-error'), /403.*4xx.*>=500/);
    assert.equal(await page.locator('.value-panel button[type=submit]').isDisabled(), true);
    await value.fill('>=200');
    await page.keyboard.press('Enter');
    await eventually('the edit', () => params(page).get('status') === '>=200');
    assert.equal(await page.locator('.popover').count(), 0);
    await page.fill('#search', 'status:banana');
    await page.keyboard.press('Enter');
    await page.waitForSelector('.search-problem');
    assert.match(await page.textContent('.search-problem'), /403.*4xx.*>=500/);
    await page.fill('#search', '');
    await page.keyboard.press('Escape');
    await page.click('.chip:has-text("POST") .chip-remove');
    await eventually('the removal', () => !params(page).has('not_method'));
    await page.goBack();
    await eventually('back', async () => params(page).get('not_method') === 'POST' && (await page.locator('.chip-open').count()) === 3);
    await page.goForward();
    await eventually('forward', async () => (await page.locator('.chip-open').count()) === 2);
  }));

test('filters by menu, by facets', () =>
  at('#/settings/audit', async (page) => {
    await auditReady(page);
    await page.click('button:has-text("Filter")');
    await page.click('.popover >> text="Actor"');
    const value = page.locator('.values .menu-item').first();
    await value.waitFor();
    await value.click();
    await eventually('the chip', () => params(page).has('actor'));
    await auditReady(page);
    assert.equal(new Set(await page.$$eval('td.c-actor', (l) => l.map((c) => c.title))).size, 1);
    await page.click('button:has-text("Filter")');
    await page.click('.popover >> text="Changes only"');
    await eventually('the usual one', () => params(page).get('not_method') === 'GET');
    await page.click('text=Clear');
    await eventually('none', async () => (await page.locator('.chip-open').count()) === 0);
  }));

test('paging to the end shows as many calls as the API counts, each once, newest first', async () => {
  const client = agent('paging');
  const made = await makeCalls(650, client);
  const counted = (await s.server.json(s.server.admin, `/v1/audit-log/facets?client=${client}&since=1h`)).total;
  assert.equal(counted, made.length);
  await at(`#/settings/audit?client=${client}&since=1h`, async (page) => {
    assert.equal(await auditReady(page), made.length);
    const seen = [];
    for (const end = Date.now() + 180_000; ; ) {
      for (const id of await shownIds(page)) if (!seen.includes(id)) seen.push(id);
      if (
        ((await page.textContent('.log-foot')) ?? '').startsWith('The end') &&
        (await page.evaluate(() => {
          const m = document.querySelector('.main');
          return m.scrollTop + m.clientHeight >= m.scrollHeight - 2;
        }))
      )
        break;
      assert.ok(Date.now() < end, 'the end does not come');
      await page.evaluate(() => document.querySelector('.main').scrollBy(0, 500));
      await drawn(page);
    }
    assert.equal(await scrollToEnd(page), made.length);
    assert.deepEqual([...seen].sort(), [...made].sort());
    const api = [];
    for (let cursor = ''; ; ) {
      const found = await s.server.json(
        s.server.admin,
        `/v1/audit-log?client=${client}&since=1h&limit=1000${cursor && `&cursor=${encodeURIComponent(cursor)}`}`,
      );
      api.push(...found.rows.map((r) => r.id));
      if (!(cursor = found.next_cursor)) break;
    }
    assert.deepEqual(seen, api);
  });
});

test('keyboard: j and k go through rows, Enter opens, Esc closes; the drawer follows', async () => {
  const client = agent('keys'); // whose calls are all there are: the page brings its rows up to date
  await makeCalls(4, client);
  await at(`#/settings/audit?client=${client}&since=1h`, async (page) => {
    await auditReady(page);
    const ids = await shownIds(page);
    await page.keyboard.press('j');
    await page.keyboard.press('j');
    await page.keyboard.press('k');
    await page.keyboard.press('j');
    await eventually('the second row is marked', async () => (await page.getAttribute('tr.marked', 'data-id')) === ids[1]);
    await page.keyboard.press('Enter');
    await page.waitForSelector('.drawer');
    assert.equal(params(page).get('row'), ids[1]);
    await page.keyboard.press('j');
    await eventually('the next call', () => params(page).get('row') === ids[2]);
    await page.waitForSelector(`.drawer .fact:has-text("${ids[2]}")`);
    const permalink = page.url();
    await page.keyboard.press('Escape');
    await page.waitForSelector('.drawer', { state: 'detached' });
    assert.equal(params(page).get('row'), null);
    await eventually('the row has the focus', async () => (await page.evaluate(() => document.activeElement?.closest('tr')?.dataset.id)) === ids[2]);
    await page.evaluate((url) => (location.href = url), permalink);
    await page.waitForSelector(`.drawer .fact:has-text("${ids[2]}")`);
    await page.goBack();
    await page.waitForSelector('.drawer', { state: 'detached' });
  });
});

test('a row far down stays in the window when the drawer opens beside it and closes', async () => {
  const client = agent('far');
  await makeCalls(300, client);
  await at(`#/settings/audit?client=${client}&since=1h`, async (page) => {
    await auditReady(page);
    await scrollToEnd(page);
    await page.evaluate(() => document.querySelector('.main').scrollTo(0, 5000));
    await drawn(page);
    const row = page.locator('tr[data-id]').nth(30);
    await row.click();
    await page.waitForSelector('.drawer dl');
    const inWindow = async () => {
      const box = await page.locator('tr.marked').boundingBox();
      return box !== null && box.y > 60 && box.y + box.height <= 800;
    };
    await eventually('the row beside the drawer', inWindow);
    await page.keyboard.press('Escape');
    await page.waitForSelector('.drawer', { state: 'detached' });
    await eventually('the row after it', inWindow);
  });
});

test('the drawer tells everything about a call, and filters by it', async () => {
  const body = JSON.stringify({ reason: 'does it hold', confirm_tenant_id: 'UTD_NOBODY_000' });
  const client = agent('drawer');
  const answer = await s.server.call(s.server.admin, '/v1/tenants/UTD_NOBODY_000/arm', {
    method: 'POST',
    body,
    headers: { 'Content-Type': 'application/json', 'User-Agent': `${client}/2.0 (test)`, 'X-Request-Id': 'req-4711' },
  });
  const id = answer.headers.get('argus-audit-id');
  const row = await s.server.json(s.server.admin, `/v1/audit-log/${id}`);
  await at(`#/settings/audit?row=${id}`, async (page) => {
    await page.waitForSelector(`.drawer .fact:has-text("${id}")`);
    const text = await page.textContent('.drawer');
    const { date, clock } = { date: row.occurred_at.slice(0, 10), clock: row.occurred_at.slice(11, 26) };
    for (const part of [
      row.route,
      'UTD_NOBODY_000',
      `${date} ${clock} UTC`,
      row.actor_id,
      row.pat_id,
      row.client_ip,
      `${client}/2.0 (test)`,
      row.body_sha256,
      row.row_hash,
      row.scope,
      String(row.status),
      `${row.writer_id}, ${row.seq}`,
    ]) {
      assert.ok(text.includes(part), `the drawer does not say ${part}`);
    }
    if (!s.server.mock && !process.env.ARGUS_CONSOLE_MOCKED) assert.ok(text.includes('req-4711'));

    // the digest: the very bytes match, others do not, and the length is told
    const input = page.locator('.drop input[type=file]');
    await input.setInputFiles({ name: 'body.json', mimeType: 'application/json', buffer: Buffer.from(body) });
    await page.waitForSelector('.verdict.tone-ok');
    assert.match(await page.textContent('.verdict'), /Match.*body\.json is exactly what was submitted/);
    await input.setInputFiles({ name: 'other.json', mimeType: 'application/json', buffer: Buffer.from(`${body}\n`) });
    await page.waitForSelector('.verdict.tone-bad');
    assert.match(await page.textContent('.verdict'), new RegExp(`No match.*it has ${body.length + 1} bytes, the call carried ${body.length}`));
    // dropped, as from a file manager
    const transfer = await page.evaluateHandle((text) => {
      const data = new DataTransfer();
      data.items.add(new File([text], 'dropped.json'));
      return data;
    }, body);
    await page.dispatchEvent('.drop', 'drop', { dataTransfer: transfer });
    await eventually('the verdict', async () => (await page.textContent('.verdict')).includes('dropped.json is exactly'));

    await page.click('.drawer >> text="Same route"');
    await eventually('the filter', () => params(page).get('route') === row.route && params(page).get('row') === null);
  });
});

test('dragging over the chart chooses the window', () =>
  at('#/settings/audit?since=24h', async (page) => {
    await auditReady(page);
    await page.waitForSelector('.histogram .u-over');
    await still(page);
    const box = await page.locator('.histogram .u-over').boundingBox();
    await page.mouse.move(box.x + box.width * 0.7, box.y + box.height / 2);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.85, box.y + box.height / 2, { steps: 6 });
    await page.mouse.move(box.x + box.width * 0.99, box.y + box.height / 2, { steps: 6 });
    await page.mouse.up();
    await eventually('the window', () => params(page).has('until'));
    const [from, to] = [Date.parse(params(page).get('since')), Date.parse(params(page).get('until'))];
    const span = (to - from) / 3_600_000;
    assert.ok(Math.abs(span - 0.29 * 24) < 1, `chosen ${span} h of 24`);
    const shown = await auditReady(page);
    const counted = (
      await s.server.json(
        s.server.admin,
        `/v1/audit-log/facets?since=${params(page).get('since')}&until=${params(page).get('until')}&not_agent=console-background`,
      )
    ).total;
    // calls made while looking may fall into a window that reaches to now
    assert.ok(Math.abs(shown - counted) <= 40, `${shown} shown, ${counted} counted`);
    await page.goBack();
    await eventually('the whole window', () => !params(page).has('until'));
    await page.click('.window-button');
    await page.click('text=Last 7 days');
    await eventually('the picked window', () => params(page).get('since') === '7d');
    await page.click('.window-button');
    await page.fill('.window-form input >> nth=0', '2026-01-01 00:00:00');
    await page.fill('.window-form input >> nth=1', '2026-01-02 12:30');
    await page.click('text=Show this window');
    await eventually('the typed window', () => params(page).get('since') === '2026-01-01T00:00:00Z' && params(page).get('until') === '2026-01-02T12:30:00Z');
    await page.waitForSelector('.empty');
  }));

test('the export is exactly the filter: as many rows as the table, the same ones', async () => {
  const client = agent('export');
  const made = await makeCalls(230, client);
  await makeCalls(20, agent('other'));
  await at(`#/settings/audit?client=${client}&since=1h`, async (page) => {
    await auditReady(page);
    assert.equal(await scrollToEnd(page), made.length);
    const save = async (label) => {
      await page.evaluate(() => document.querySelector('.main').scrollTo(0, 0));
      await page.click('button:has-text("Export")');
      const [download] = await Promise.all([page.waitForEvent('download'), page.click(`.popover >> text=${label}`)]);
      const text = await readFile(await download.path(), 'utf8');
      await page.waitForSelector('dialog:has-text("Exported")');
      assert.match(await page.textContent('.export-figure'), new RegExp(`^${made.length} rows`));
      // The manifest is of these bytes.
      const [second] = await Promise.all([page.waitForEvent('download'), page.click('dialog >> text="Save its manifest"')]);
      assert.equal(second.suggestedFilename(), `${download.suggestedFilename()}.manifest.json`);
      const manifest = JSON.parse(await readFile(await second.path(), 'utf8'));
      assert.equal(manifest.sha256, createHash('sha256').update(text).digest('hex'));
      assert.ok(manifest.complete && manifest.rows === made.length && manifest.filter.client[0] === client);
      await page.click('dialog >> text="Close"');
      return { name: download.suggestedFilename(), text };
    };
    const ndjson = await save('NDJSON');
    assert.match(ndjson.name, /^argus-audit-log_\d{8}T\d{6}Z\.ndjson$/);
    // A file of an export tells the leaf of each row that is sealed, besides the row.
    const exported = ndjson.text
      .trim()
      .split('\n')
      .map((l) => JSON.parse(l))
      .map(({ leaf: _, ...row }) => row);
    const api = (await s.server.json(s.server.admin, `/v1/audit-log?client=${client}&since=1h&limit=1000`)).rows;
    assert.deepEqual(
      exported.map((r) => r.id),
      api.map((r) => r.id),
    );
    assert.deepEqual(exported[0], api[0]);
    const csv = await save('CSV');
    const lines = csv.text.trim().split('\n');
    assert.equal(lines.length, made.length + 1);
    assert.ok(lines[0].includes('occurred_at') && lines[1].includes(api[0].id));
  });
});

test('what callers send is text, never markup', async () => {
  const evil = '<img src=x onerror="window.owned=1"><script>window.owned=2</script>';
  const client = agent('hostile');
  const answer = await s.server.call(s.server.admin, `/v1/tenants/${encodeURIComponent(`"><svg onload=window.owned=3>${client}`)}`, {
    headers: { 'User-Agent': `${client}/1 ${evil}` },
  });
  const id = answer.headers.get('argus-audit-id');
  await at(`#/settings/audit?client=${client}&since=1h&user_agent=${encodeURIComponent(evil)}&row=${id}`, async (page) => {
    await auditReady(page);
    await page.waitForSelector(`.drawer .fact:has-text("${id}")`);
    assert.equal(await rows(page).count(), 1);
    assert.ok((await page.textContent('.drawer')).includes(evil));
    assert.ok((await page.textContent('.params')).includes('"><svg onload'));
    assert.ok((await page.textContent('.chips')).includes('<img src=x'));
    await page.waitForTimeout(200);
    assert.equal(await page.evaluate(() => window.owned), undefined);
    assert.equal(await page.locator('.main img, .main script, .drawer img, .drawer script').count(), 0);
  });
});

test('no call in the window: said, not blank', () =>
  at('#/settings/audit?route=GET%20/nowhere', async (page) => {
    await unheard(page, '.unknown-value:has-text("No route \'GET /nowhere\'.")'); // no call can match: the API says so
    await page.evaluate(() => (location.hash = '#/settings/audit?actor=user_2unknown'));
    await page.waitForSelector('.empty:has-text("No calls match")');
    await page.click('.empty >> text=Last 30 days');
    await eventually('the wider window', () => params(page).get('since') === '30d');
    await page.evaluate(() => (location.hash = '#/nowhere'));
    await page.waitForSelector('text=There is no page here');
  }));

test('a link that cannot be read: its parts are named, nothing is asked for, nothing else is shown', () =>
  at('#/settings/audit?since=yesterday&colour=red&status=2xx', async (page) => {
    const asked = [];
    page.on('request', (r) => /\/v1\/(audit-log|perf)/.test(r.url()) && asked.push(r.url()));
    const said = page.locator('.unreadable');
    await said.waitFor();
    const text = await said.textContent();
    for (const part of ['since=yesterday', '"yesterday" is no time; write RFC 3339', 'colour=red', 'There is no parameter "colour" here.'])
      assert.ok(text.includes(part), `${part} in ${text}`);
    assert.equal(await page.locator('table').count(), 0);
    // The server says the same of the same link.
    const answer = await s.server.call(s.server.admin, '/v1/audit-log?since=yesterday&status=2xx');
    assert.ok(text.includes((await answer.json()).error.message));
    for (const hash of [
      '#/performance?until=soon',
      '#/performance/route?since=1h',
      '#/compute?all=yes',
      '#/settings/tokens?new=1&preset=root',
      '#/tenants?tenant=a&tenant=b',
    ]) {
      await page.evaluate((to) => (location.hash = to), hash);
      await eventually(hash, async () => (await said.count()) === 1 && (await page.locator('table, dialog, .drawer').count()) === 0);
    }
    assert.deepEqual(asked, []);
    await page.evaluate(() => (location.hash = '#/settings/audit?since=yesterday&status=2xx'));
    await page.click('.unreadable >> text=Open it without this part');
    await auditReady(page);
    assert.deepEqual([...params(page)], [['status', '2xx']]);
  }));

test('a link whose + became a blank shows its window', () =>
  at('#/settings/audit?since=2026-11-01T22:00:00+02:00', async (page) => {
    await auditReady(page);
    assert.match(await page.textContent('.window-button'), /Since 2026-11-01 20:00/);
  }));
