import assert from 'node:assert/strict';
import { connect, createServer } from 'node:net';
import { test } from 'node:test';
import { agent, at, auditReady, drawn, eventually, makeCalls, scrollToEnd, setup, shownIds, unheard, withPage } from './fixture.mjs';

const s = setup();
const loaded = async (page) => Number(/([\d,]+) loaded/.exec(await page.textContent('.results-count'))?.[1].replace(/\D/g, '') ?? 0);

test('the live tail under load brings every call once', async () => {
  const client = agent('tail');
  const before = await makeCalls(5, client);
  await at(`#/settings/audit?client=${client}&since=1h`, async (page) => {
    await auditReady(page);
    await page.keyboard.press('l');
    await page.waitForSelector('.live.on.open');
    const during = await makeCalls(1500, client, { parallel: 24 });
    const all = new Set([...before, ...during]);
    await eventually('all rows', async () => (await loaded(page)) >= all.size, 90_000);
    await page.waitForTimeout(600);
    assert.equal(await loaded(page), all.size);
    const newest = (await s.server.json(s.server.admin, `/v1/audit-log?client=${client}&since=1h&limit=20`)).rows.map((r) => r.id);
    await eventually('the newest on top', async () => (await shownIds(page)).slice(0, 20).join() === newest.join());
    await scrollToEnd(page);
    assert.equal(await loaded(page), all.size);
    await page.keyboard.press('l');
    await page.waitForSelector('.live:not(.on)');
  });
});

test('scrolling pauses it, it says how many wait, and shows them when asked', async () => {
  const client = agent('pause');
  await makeCalls(120, client);
  await at(`#/settings/audit?client=${client}&since=1h&live=1`, async (page) => {
    await auditReady(page);
    await page.waitForSelector('.live.on.open');
    const top = (await shownIds(page))[0];
    await page.evaluate(() => document.querySelector('.main').scrollTo(0, 1200));
    await eventually('the rows further down', async () => (await shownIds(page))[0] !== top);
    await drawn(page);
    const place = await page.evaluate(() => document.querySelector('tr[data-id]').dataset.id);
    await makeCalls(37, client);
    await page.waitForSelector('.pill:has-text("37 new calls")');
    assert.equal(await page.evaluate(() => document.querySelector('tr[data-id]').dataset.id), place, 'nothing moved');
    assert.equal(await loaded(page), 120);
    await page.click('.pill');
    await eventually('the rows', async () => (await loaded(page)) === 157);
    assert.equal(await page.evaluate(() => document.querySelector('.main').scrollTop), 0);
    await page.waitForSelector('.pill', { state: 'detached' });
  });
});

test('of a client and a release that no call had it waits for the first call, also when it is turned on in place of the advice', async () => {
  for (const live of ['&live=1', '']) {
    const client = agent('deploy');
    await at(`#/settings/audit?client=${client}&since=1h${live}`, async (page) => {
      if (!live) {
        await unheard(page, `.unknown-value:has-text("No client '${client}'.")`);
        await page.click('button:has-text("Wait for the first such call")');
      }
      await unheard(page, `.empty:has-text("Waiting for the first such call"):has-text("No client '${client}'.")`);
      await page.waitForSelector('.live.on.open');
      await page.waitForSelector('.results-count:has-text("0 calls")');
      await makeCalls(3, client);
      await eventually('its calls', async () => (await loaded(page)) === 3);
      await page.waitForSelector('.empty', { state: 'detached' });
    });
  }
  // Off again, the advice is back. An unknown person is never waited for.
  await at('#/settings/audit?release=v0-never&since=1h&live=1', async (page) => {
    await page.waitForSelector('.live.on.open');
    await page.click('.live');
    await unheard(page, `.unknown-value:has-text("No release 'v0-never'.")`);
  });
  await at('#/settings/audit?actor=gra&live=1', async (page) => {
    await unheard(page, '.unknown-value:has-text("Grace Lindqvist")');
    assert.equal(await page.locator('button:has-text("Wait for")').count(), 0);
  });
});

/** A way to the server that can be cut. */
async function cuttable() {
  const target = new URL(s.server.url);
  const open = new Set();
  let down = false;
  const proxy = createServer((from) => {
    if (down) return from.destroy();
    const to = connect(Number(target.port), target.hostname);
    for (const [a, b] of [
      [from, to],
      [to, from],
    ]) {
      open.add(a);
      a.on('error', () => undefined);
      a.on('close', () => {
        open.delete(a);
        b.destroy();
      });
      a.pipe(b);
    }
    return undefined;
  });
  await new Promise((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${proxy.address().port}`,
    cut: () => {
      down = true;
      for (const socket of open) socket.destroy();
    },
    mend: () => (down = false),
    close: () => {
      for (const socket of open) socket.destroy();
      proxy.close();
    },
  };
}

test('cut off, it goes on where it stopped, without a gap and without repeating', async () => {
  const client = agent('cut');
  const way = await cuttable();
  await makeCalls(1, client); // a client that no call had is told as such
  try {
    await withPage({ url: way.url }, async (page) => {
      await s.server.enter(page, s.server.admin, `#/settings/audit?client=${client}&since=1h&live=1`, way.url);
      await page.waitForSelector('.live.on.open');
      await makeCalls(10, client);
      await eventually('the first ones', async () => (await loaded(page)) === 11);
      for (let round = 1; round <= 4; round++) {
        way.cut();
        await page.waitForSelector('.live.on:not(.open)');
        await makeCalls(10, client);
        await page.waitForSelector('.notice:has-text("goes on where it stopped")');
        way.mend();
        await page.waitForSelector('.live.on.open');
        await eventually('those made meanwhile', async () => (await loaded(page)) === 11 + round * 10);
      }
      await page.waitForTimeout(500);
      assert.equal(await loaded(page), 51);
    });
  } finally {
    way.close();
  }
});
