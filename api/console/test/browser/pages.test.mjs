import assert from 'node:assert/strict';
import { test } from 'node:test';
import { at, auditReady, eventually, makeCalls, pressAtOnce, setup, shownIds, still } from './fixture.mjs';

const s = setup();
const params = (page) => new URLSearchParams(new URL(page.url()).hash.split('?')[1]);
const TENANT = 'UTD_LAKESIDE_008';

test('tenants: arm with typed id, reason and consent; a session; disarm', async () => {
  await s.server.call(s.server.admin, `/v1/tenants/${TENANT}/disarm`, {
    method: 'POST',
    body: JSON.stringify({ reason: 'before the test' }),
    headers: { 'Content-Type': 'application/json' },
  });
  await at('#/tenants', async (page) => {
    const row = page.locator(`tr:has-text("${TENANT}")`);
    await row.waitFor();
    assert.match(await page.textContent('h1'), /^Tenants \(\d+ · \d+ armed\)$/);
    await row.locator('button:has-text("Arm")').click();
    const arm = page.locator('dialog button[type=submit]');
    assert.ok(await arm.isDisabled());
    await page.fill('dialog input >> nth=0', TENANT.toLowerCase());
    await page.fill('dialog input >> nth=1', 'ride-along');
    await page.check('dialog input[type=checkbox]');
    assert.ok(await arm.isDisabled(), 'the id must be typed exactly');
    await page.fill('dialog input >> nth=0', TENANT);
    await page.fill('dialog input >> nth=1', 'no');
    assert.ok(await arm.isDisabled(), 'the reason has at least three characters');
    await page.fill('dialog input >> nth=1', 'ride-along');

    // rejected for now: it counts down
    await page.route('**/arm', (route) =>
      route.fulfill({
        status: 429,
        headers: { 'Retry-After': '2', 'Content-Type': 'application/json' },
        body: JSON.stringify({ error: { code: 'rate_limited', message: 'You arm too often.', audit_id: null } }),
      }),
    );
    await arm.click();
    await page.waitForFunction(
      () => /Try again in/.test(document.querySelector('.countdown')?.textContent ?? '') && document.querySelector('dialog button[type=submit]').disabled,
    );
    await page.waitForSelector('.countdown:has-text("now")');
    await page.unroute('**/arm');
    const [sent] = await Promise.all([page.waitForRequest('**/arm'), arm.click()]);
    const { consent_document_id: consented, ...rest } = sent.postDataJSON();
    assert.deepEqual(rest, { reason: 'ride-along', confirm_tenant_id: TENANT });
    assert.match(consented, /^DOC-/);
    assert.ok(sent.headers()['idempotency-key']);
    await page.waitForSelector('dialog', { state: 'detached' });
    await row.locator('text=Armed').waitFor();

    await row.locator('button:has-text("Start session")').click();
    await page.fill('dialog input >> nth=0', 'printer is stuck');
    await page.fill('dialog input[type=number]', '15');
    await page.click('dialog button[type=submit]');
    await row.locator('text=1 live session').waitFor();
    await page.click('nav >> text=Live sessions');
    const live = page.locator(`tr:has-text("${TENANT}")`);
    await live.waitFor();
    assert.match(await live.textContent(), /1[45]m/);
    await live.locator('button:has-text("End")').click();
    await page.click('dialog button[type=submit]');
    await live.waitFor({ state: 'detached' });

    await page.click('nav >> text=Tenants');
    await row.locator('button:has-text("Disarm")').click();
    await page.fill('dialog input', 'done');
    await page.keyboard.press('Enter');
    await row.locator('text=Disarmed').waitFor();

    // the change stands in the log with its steps
    await row.locator('a').first().click();
    await page.click('.drawer >> text="Its calls"');
    await auditReady(page);
    assert.equal(params(page).get('tenant'), TENANT);
    await page.click('a.route[title*="/arm"] >> nth=0');
    await page.waitForSelector('.drawer .steps');
    const steps = await page.textContent('.drawer .steps');
    assert.match(steps, /arm requested/);
    assert.match(steps, /arm succeeded/);
    assert.match(steps, /ride-along/);
  });
});

test('compute: launch, stop, resume, terminate, each with its reason', () =>
  at('#/compute', async (page) => {
    await page.waitForSelector('table, .empty');
    await page.click('button:has-text("Launch")');
    await page.fill('dialog input >> nth=1', 'console test');
    await page.check('dialog input[type=checkbox]');
    const [answer] = await Promise.all([page.waitForResponse('**/compute/ops/launch'), page.click('dialog button[type=submit]')]);
    const { id } = await answer.json();
    const row = page.locator(`tr:has(a:text-is("${id}"))`);
    await row.locator('text=running').waitFor();
    await row.locator('a').click();
    await page.waitForSelector('.drawer >> text=Uptime');
    assert.match(await page.textContent('.drawer'), /console test/);
    const drawer = page.locator('.drawer');
    for (const [verb, state] of [
      ['Stop', 'stopped'],
      ['Resume', 'running'],
    ]) {
      await drawer.locator(`button:has-text("${verb}")`).click();
      await page.fill('dialog input >> nth=0', `${verb} it`);
      await page.check('dialog input[type=checkbox]');
      await page.click('dialog button[type=submit]');
      await drawer.locator(`.pill-state:has-text("${state}")`).waitFor();
    }
    await drawer.locator('button:has-text("Terminate")').click();
    const submit = page.locator('dialog button[type=submit]');
    await page.fill('dialog input >> nth=1', 'not needed any more');
    assert.ok(await submit.isDisabled(), 'the id must be typed');
    await page.fill('dialog input >> nth=0', id);
    await submit.click();
    await page.waitForSelector('dialog', { state: 'detached' });
    await eventually('gone from the list', async () => (await row.count()) === 0 || /terminat/.test(await row.textContent()));
  }));

test('a lost answer is repeated under the same key', () =>
  at('#/compute', async (page) => {
    await page.waitForSelector('table, .empty');
    const keys = [];
    let lose = true;
    await page.route('**/compute/ops/launch', async (route) => {
      keys.push(route.request().headers()['idempotency-key']);
      if (!lose) return route.continue();
      lose = false;
      await route.fetch(); // it arrives, and its answer does not
      return route.abort();
    });
    await page.click('button:has-text("Launch")');
    await page.fill('dialog input >> nth=1', 'lost answer');
    await page.check('dialog input[type=checkbox]');
    await page.click('dialog button[type=submit]');
    await page.waitForSelector('.form-error');
    const [answer] = await Promise.all([page.waitForResponse('**/compute/ops/launch'), page.click('dialog button[type=submit]')]);
    const { id } = await answer.json();
    assert.equal(keys.length, 2);
    assert.equal(keys[0], keys[1]);
    const { workers } = await s.server.json(s.server.admin, '/compute/ops/workers');
    assert.equal(workers.filter((w) => w.reason === 'lost answer').length, 1);
    await s.server.call(s.server.admin, `/compute/ops/workers/${id}/terminate`, {
      method: 'POST',
      body: JSON.stringify({ reason: 'after the test' }),
      headers: { 'Content-Type': 'application/json' },
    });
  }));

test('tokens: filled in by address, shown once, used, revoked', () =>
  at('#/settings/tokens?new=1&name=from%20a%20link&scopes=logs:read,tenants:read&expires_in=7d', async (page) => {
    await page.waitForSelector('dialog');
    assert.equal(await page.inputValue('dialog input >> nth=0'), 'from a link');
    assert.deepEqual(
      await page.$$eval('.scope-list label', (l) => l.filter((x) => x.querySelector('input').checked).map((x) => x.querySelector('.mono').textContent)),
      ['logs:read', 'tenants:read'],
    );
    assert.equal(await page.inputValue('dialog select'), '7d');
    await page.click('dialog button[type=submit]');
    await page.waitForSelector('.secret');
    const secret = (await page.textContent('.secret')).trim();
    assert.match(secret, /^argus_pat_/);
    assert.equal(params(page).get('new'), null);
    const me = await s.server.json(secret, '/v1/operators/me');
    assert.deepEqual(me.scopes.sort(), ['logs:read', 'tenants:read']);
    await page.click('text="Done"');
    assert.ok(!(await page.content()).includes(secret), 'the secret is gone from the page');
    const row = page.locator('tr:has-text("from a link")').first();
    await row.locator('button:has-text("Revoke")').click();
    await page.click('dialog button[type=submit]');
    await page.waitForSelector('dialog', { state: 'detached' });
    await eventually('rejected', async () => (await s.server.call(secret, '/v1/operators/me')).status === 401);
  }));

test('tokens: what else a revocation ends is shown before, and ends', () =>
  at('#/settings/tokens', async (page) => {
    const make = async (secret, name) =>
      (
        await s.server.call(secret, '/v1/tokens', {
          method: 'POST',
          body: JSON.stringify({ name, scopes: ['tokens:write', 'logs:read'], expires_in: '1d' }),
          headers: { 'Content-Type': 'application/json' },
        })
      ).json();
    const parent = await make(s.server.admin, 'a family');
    const child = await make(parent.secret, 'its child');
    const grandchild = await make(child.secret, 'its grandchild');
    await page.reload();
    await s.server.enter(page, s.server.admin, '#/settings/tokens');
    await page.waitForSelector('tr:has-text("its grandchild") >> text=made with');
    await page.click('button[aria-label="Revoke a family"]');
    await page.waitForSelector('.token-names');
    assert.deepEqual(await page.$$eval('.token-names b', (l) => l.map((x) => x.textContent)), ['its child', 'its grandchild']);
    assert.match(await page.textContent('dialog button[type=submit]'), /Revoke all 3/);
    await page.click('dialog button[type=submit]');
    await page.waitForSelector('dialog', { state: 'detached' });
    for (const t of [parent, child, grandchild]) await eventually('denied', async () => (await s.server.call(t.secret, '/v1/operators/me')).status === 401);
    await page.waitForSelector('tr:has-text("its child")', { state: 'detached' });
    await page.check('text=Ended ones too');
    await page.waitForSelector('tr:has-text("its grandchild") >> text=with a family');
  }));

test('tokens: everybody’s, those of one, and one by its secret', () =>
  at('#/settings/tokens?owner=all', async (page) => {
    await page.waitForSelector('th >> text=Owner');
    const { tokens } = await s.server.json(s.server.admin, '/v1/tokens?owner=all&state=live');
    await eventually('all tokens', async () => (await page.locator('.list tbody tr').count()) === tokens.length);
    const made = await (
      await s.server.call(s.server.admin, '/v1/tokens', {
        method: 'POST',
        body: JSON.stringify({ name: 'found on a laptop', scopes: ['logs:read'], expires_in: '1d' }),
        headers: { 'Content-Type': 'application/json' },
      })
    ).json();
    await page.click('text="Revoke by secret"');
    await page.fill('dialog input', made.secret.slice(0, 30));
    assert.ok(await page.isDisabled('dialog button[type=submit]'));
    await page.fill('dialog input', made.secret);
    await page.click('dialog button[type=submit]');
    await page.waitForSelector('dialog', { state: 'detached' });
    await eventually('denied', async () => (await s.server.call(made.secret, '/v1/operators/me')).status === 401);
    assert.ok(!page.url().includes('argus_pat_') && !(await page.content()).includes(made.secret), 'the secret is gone from the page');
    await page.selectOption('select[aria-label="Last use"]', '30d');
    await eventually('the address', () => params(page).get('unused_since') === '30d');
    const { tokens: unused } = await s.server.json(s.server.admin, '/v1/tokens?owner=all&state=live&unused_since=30d');
    await eventually('the unused ones', async () => (await page.locator('.list tbody tr').count()) === unused.length);
  }));

test('tokens: for an agent, which only reads', () =>
  at('#/settings/tokens?new=1&preset=admin-full', async (page) => {
    await page.fill('dialog label:has-text("Agent") >> xpath=following::input[1]', 'claude-code');
    await page.click('dialog button[type=submit]');
    await page.waitForSelector('output.secret');
    const secret = await page.textContent('output.secret');
    const { token } = { token: (await s.server.json(s.server.admin, '/v1/tokens?state=live')).tokens.find((t) => t.agent === 'claude-code') };
    assert.equal(token.name, 'claude-code');
    assert.equal(token.agent_actions, false);
    assert.ok(token.scopes.length > 0 && token.scopes.every((scope) => scope.endsWith(':read')), token.scopes.join(' '));
    assert.equal((await s.server.call(secret, '/v1/operators/me')).status, 200);
    await page.click('text="Done"');
    await page.waitForSelector('.list tr:has-text("agent claude-code")');
  }));

test('access review: who has which rights, what was not used, and from there to the calls', () =>
  at('#/settings/access', async (page) => {
    await page.waitForSelector('.list tbody tr');
    const { subjects } = await s.server.json(s.server.admin, '/v1/access-review?since=90d&limit=200');
    await eventually('all subjects', async () => (await page.locator('.list tbody tr').count()) === subjects.length);
    await page.check('text=Unused rights only');
    await eventually('only unused', async () => (await page.locator('.list tbody tr').count()) === subjects.filter((x) => x.unused?.length).length);
    assert.ok((await page.locator('.scope-unused').count()) > 0);
    await page.selectOption('select[aria-label="Kind"]', 'token');
    await eventually('the address', () => params(page).get('kind') === 'token');
    await page.uncheck('text=Unused rights only');
    await page.click('.list a:has-text("Calls") >> nth=0');
    await eventually('its calls', () => params(page).has('pat'));
  }));

test('performance: a route’s page shows every filter that narrows its figures, and takes one away', () =>
  at('#/performance/route?route=GET%20/v1/operators/me&since=24h&not_user_agent=nothing%3Cb%3E&status=2xx', async (page) => {
    const chips = page.locator('.chips .chip');
    await eventually('chips', async () => (await chips.count()) === 2);
    const text = await page.textContent('.chips');
    for (const part of ['nothing<b>', '2xx']) assert.ok(text.includes(part), `${part} in ${text}`);
    await page.click('.chip-remove[aria-label$="2xx"]');
    await eventually('one chip', async () => (await chips.count()) === 1);
    const left = new URLSearchParams(new URL(page.url()).hash.split('?')[1]);
    assert.equal(left.get('status'), null);
    assert.equal(left.get('route'), 'GET /v1/operators/me');
    // The way back keeps the filter, and a row leads to its own calls alone.
    await page.click('.crumb');
    await page.waitForSelector('.perf tbody tr');
    assert.equal(params(page).get('not_user_agent'), 'nothing<b>');
    await page.evaluate(() => (location.hash = '#/performance?since=24h&by=method&method=GET&method=POST'));
    const first = page.locator('.perf tbody a:text-is("POST")');
    await first.waitFor();
    await first.click();
    await page.waitForSelector('h1:has-text("Audit log")');
    assert.deepEqual(params(page).getAll('method'), ['POST']);
  }));

test('performance: sorted, filtered, compared; a route’s page; from a point to the calls behind it', () =>
  at('#/performance?since=6h', async (page) => {
    await page.waitForSelector('.perf tbody tr');
    await page.waitForSelector('.spark path', { state: 'attached' }); // the line of one point has no height
    const api = await s.server.json(s.server.admin, '/v1/perf?since=6h');
    const shown = await page.locator('.perf tbody tr').count();
    assert.ok(Math.abs(shown - api.rows.length) <= 2, `${shown} routes shown, ${api.rows.length} answered`);
    const column = (n) => page.$$eval('.perf tbody tr', (l, i) => l.map((r) => r.cells[i].firstChild.textContent), n);
    await page.click('th >> text=p99');
    await eventually('the sort', () => params(page).get('sort') === 'p99');
    const ms = (t) => (t === '–' ? -1 : parseFloat(t) * (t.endsWith(' s') ? 1000 : 1));
    const p99 = (await column(8)).map(ms);
    assert.deepEqual(
      p99,
      [...p99].sort((a, b) => b - a),
    );
    await page.fill('#perf-filter', 'operators/me');
    await eventually('the filter', async () => (await page.locator('.perf tbody tr').count()) === 1);
    await page.click('.perf tbody a');
    await page.waitForSelector('.chart .u-over');
    assert.equal(params(page).get('route'), 'GET /v1/operators/me');
    assert.equal(await page.locator('.chart .u-over').count(), 3);

    // one cursor over all charts
    await still(page);
    const box = await page.locator('.chart .u-over').nth(1).boundingBox();
    await page.mouse.move(box.x + box.width * 0.98, box.y + box.height / 2);
    await eventually('the figures at the cursor', async () => /calls · p50/.test(await page.textContent('.chart-read')));
    const marks = await page.$$eval('.chart .u-cursor-x', (l) => l.map((c) => c.style.transform));
    assert.ok(
      marks.every((m) => m === marks[0] && m !== ''),
      marks.join(' '),
    );

    const call = await page.textContent('.chart-read');
    await page.mouse.click(box.x + box.width * 0.98, box.y + box.height / 2);
    await page.waitForSelector('h1:has-text("Audit log")');
    assert.equal(params(page).get('route'), 'GET /v1/operators/me');
    assert.ok(params(page).get('since') && params(page).get('until'), call);
    await page.goBack();
    await page.waitForSelector('.chart .u-over');
    await page.goBack();
    await page.waitForSelector('.perf tbody tr');
    await page.selectOption('.select select', 'client');
    await page.waitForSelector('.perf th:has-text("Client")');
  }));

test('profile, health, shortcuts', () =>
  at('#/profile', async (page) => {
    const me = await s.server.json(s.server.admin, '/v1/operators/me');
    await page.waitForSelector('.page dl');
    const text = await page.textContent('.page');
    for (const part of [me.actor_id, me.preset, 'remote_support:arm', s.server.url]) assert.ok(text.includes(part), part);
    // A busy page hears late of keys that were pressed in time.
    await page.evaluate(() => {
      const keys = ['g', 'h'].map((key) => new KeyboardEvent('keydown', { key, bubbles: true }));
      document.body.dispatchEvent(keys[0]);
      for (const end = performance.now() + 1600; performance.now() < end; );
      document.body.dispatchEvent(keys[1]);
    });
    await page.waitForSelector('.stages');
    await page.waitForSelector('.ledger-card');
    await eventually('each stage', async () => {
      const { stages } = await s.server.json(s.server.admin, '/v1/health');
      return (await page.locator('.stage').count()) === stages.length + 1; // and the ledger's newest checkpoint
    });
    await page.keyboard.press('?');
    await page.waitForSelector('dialog:has-text("Keyboard shortcuts")');
    await page.keyboard.press('Escape');
    await page.waitForSelector('dialog', { state: 'detached' });
    await pressAtOnce(page, 'g', 't');
    await page.waitForSelector('h1:has-text("Tenants")');
  }));

test('health: each copy in ClickHouse, and each replicator, has a card that names it; what is down stands first', () =>
  at('#/profile', async (page) => {
    await page.route(/\/v1\/health$/, async (route) => {
      const answer = await route.fetch();
      const body = await answer.json();
      body.stages = [
        { name: 'writer', status: 'ok', detail: '', facts: null },
        { name: 'replicator', status: 'ok', detail: '', facts: { slot: 'argus_east_2' } },
        { name: 'replicator', status: 'degraded', detail: '', facts: { slot: 'argus_west' } },
        { name: 'ledger', status: 'down', detail: '', facts: null },
        { name: 'ship', status: 'ok', detail: '', facts: { 'sink lake': { lag_rows: 0, state: 'idle' } } },
        { name: 'clickhouse', status: 'down', detail: 'This copy does not answer; another copy does.', facts: { copy: 'east', preferred: false } },
        { name: 'clickhouse', status: 'ok', detail: '', facts: { copy: 'west', preferred: true, tail_rows: 3 } },
      ];
      await route.fulfill({ response: answer, json: body });
    });
    await page.evaluate(() => (location.hash = '#/health'));
    await page.waitForSelector('.stage:has(h2:has-text("ClickHouse east")):has-text("another copy does") >> text=down');
    for (const title of ['Replicator east/2', 'Replicator west']) await page.waitForSelector(`.stage h2:has-text("${title}")`);
    await page.waitForSelector('.stage:has-text("lag rows 0, state idle")');
    const west = page.locator('.stage', { has: page.locator('h2', { hasText: 'ClickHouse west' }) });
    assert.equal(await west.locator('dl').textContent(), 'preferredyestail rows3');
    const titles = await page.$$eval('.stages .stage h2', (all) => all.map((h2) => h2.textContent));
    assert.deepEqual(titles, [
      'Ledger down',
      'ClickHouse east down',
      'Replicator west degraded',
      'Writer ok',
      'Replicator east/2 ok',
      'Ship ok',
      'ClickHouse west ok',
    ]);
  }));

test('texts that hide, reorder or steer are shown as escapes, in tips and labels too', () =>
  at('#/health', async (page) => {
    const name = 'evil\u202egpj\u200b\x1b[2J\u0301\u0301\u0301\u0301\u0301\ud800 👩\u200d👧';
    await page.route(/\/v1\/tokens(\?|$)/, async (route) => {
      const token = {
        id: '0198c9a2-5f44-7aaa-8bbb-0123456789ab',
        name,
        last_four: 'abcd',
        scopes: ['logs:read'],
        preset: null,
        created_at: '2026-01-01T00:00:00Z',
        expires_at: '2099-01-01T00:00:00Z',
        revoked_at: null,
        last_used_at: null,
      };
      await route.fulfill({ contentType: 'application/json', body: JSON.stringify({ tokens: [token] }) });
    });
    await page.evaluate(() => (location.hash = '#/settings/tokens'));
    const escaped = 'evil\\u202egpj\\u200b\\x1b[2J\u0301\u0301\u0301\u0301\\u0301\\ud800 👩\u200d👧';
    await page.locator('td', { hasText: escaped }).first().waitFor();
    const raw = await page.evaluate(() => {
      const bad = /[\u202e\u200b\x1b\ud800]/u;
      return [...document.querySelectorAll('*')]
        .flatMap((e) => [
          ...[...e.attributes].filter((a) => a.name !== 'value').map((a) => a.value),
          ...[...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data),
        ])
        .filter((text) => bad.test(text));
    });
    assert.deepEqual(raw, []);
  }));

test('a call is called verified only when this browser has verified it', () =>
  at('#/settings/audit', async (page) => {
    const key = s.server.ledgerKey;
    if (!key) return assert.ok(s.server.mock || process.env.ARGUS_CONSOLE_MOCKED || process.env.ARGUS_URL, 'the server has no ledger');
    await makeCalls(3, 'sealed');
    await auditReady(page);
    const id = (await shownIds(page))[4];
    await eventually('the call is sealed', async () => (await s.server.call(s.server.admin, `/v1/audit-log/${id}/proof?hash_only=true`)).ok);
    const verdict = async (tone) => {
      await page.waitForSelector(`.seal .verdict.${tone}`);
      return page.textContent('.seal .verdict');
    };
    await page.locator(`tr[data-id="${id}"]`).click();
    await page.click('.seal >> text=Check the seal');
    assert.match(await verdict('tone-warn'), /whose signature was not checked: no key is pinned/);
    await page.click('.seal >> text=Pin the log');
    await page.fill('.pin-key input', key.replace('+', '+0'));
    await page.click('.pin-key button[type=submit]');
    await page.waitForSelector('.pin-key .tone-bad');
    await page.fill('.pin-key input', key);
    await page.click('.pin-key button[type=submit]');
    assert.match(await verdict('tone-ok'), /Sealed in checkpoint [\d,]+, verified in this browser/);

    // A server that lies: about the way to the root, about the signature, and about the row itself.
    for (const lie of [
      (file) => file.replace(/\n([A-Za-z0-9+/])([A-Za-z0-9+/]{42}=)\n/, (_, a, rest) => `\n${a === 'A' ? 'B' : 'A'}${rest}\n`),
      (file) => file.replace(/(— \S+ .{20})(.)/, (_, head, c) => head + (c === 'A' ? 'B' : 'A')),
    ]) {
      await page.route(/\/proof(\?|$)/, async (route) => {
        const answer = await route.fetch();
        await route.fulfill({ response: answer, body: lie(await answer.text()) });
      });
      await page.keyboard.press('j');
      assert.match(await verdict('tone-bad'), /Not proven/);
      await page.unroute(/\/proof(\?|$)/);
    }
    await page.evaluate(() => (location.hash = '#/health'));
    await page.waitForSelector('.ledger-card .tone-ok');
    assert.match(await page.textContent('.ledger-card'), /Signature verified in this browser/);
  }));
