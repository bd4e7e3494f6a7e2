// For whom calls got slow or failed, and charts that people can choose from, at four widths and in both themes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { accessible, agent, at, eventually, makeCalls, none, setup, shared, still, tooWide, withPage } from './fixture.mjs';

setup();
const ROUTE = '#/performance/route?route=GET%20/v1/operators/me';
const QUIET = '#/performance/route?route=GET%20/v1/sinks'; // no page of the console calls it
const params = (page) => new URLSearchParams(new URL(page.url()).hash.split('?')[1]);
const seconds = (ms) => `${new Date(ms).toISOString().slice(0, 19)}Z`;

/** How many pixels of a chart have a colour of the theme. */
const pixels = (page, chart, name) =>
  page.locator(`section[aria-label="${chart}"] canvas`).evaluate((canvas, name) => {
    const probe = document.createElement('canvas').getContext('2d');
    probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
    probe.fillRect(0, 0, 1, 1);
    const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let n = 0;
    for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200 && data[i] === r && data[i + 1] === g && data[i + 2] === b) n++;
    return n;
  }, name);

const wholeSecond = () => new Promise((resolve) => setTimeout(resolve, 1050 - (Date.now() % 1000)));

test('what differs: a range against the rest of the window, a value that becomes a filter, and the way back', async () => {
  const [early, late] = [agent('early'), agent('late')];
  await makeCalls(80, early, { path: '/v1/sinks' });
  await wholeSecond();
  const from = Date.now();
  await makeCalls(80, late, { path: '/v1/sinks' });
  await wholeSecond();
  await at(`${QUIET}&since=15m&from=${seconds(from)}&to=${seconds(Date.now())}`, async (page) => {
    const value = (name) => page.locator('.differ-value', { has: page.locator(`button:has-text("${name}")`) });
    await value(late).waitFor();
    assert.match(await value(late).textContent(), /more often/);
    assert.match(await value(late).textContent(), /share in the region (100|9\d\.\d) %/);
    assert.match(await value(early).textContent(), /more rarely.*share in the region 0 %/);
    const widths = await value(late)
      .locator('rect:last-child')
      .evaluateAll((bars) => bars.map((b) => b.getBoundingClientRect().width));
    assert.ok(widths[0] > 5 * widths[1], `the bars are ${widths} wide`);
    await value(late).locator('.differ-name').click();
    await page.waitForSelector(`.chip:has-text("${late}")`);
    assert.equal(params(page).get('client'), late);
    assert.equal(params(page).get('from'), seconds(from), 'the range stays');
    await page.goBack();
    await page.click('.differs button:has-text("Close")');
    await page.waitForSelector('.differs', { state: 'detached' });
    assert.equal(params(page).get('from'), null);

    // The whole window stands beside the time before; what is within chance is shown when it is wanted.
    await page.click('.views button:has-text("This window")');
    await page.waitForSelector('.differs-about:has-text("of the time before")');
    const chance = page.locator('.differs button:has-text("within chance")');
    if (await chance.count()) {
      await chance.click();
      await page.waitForSelector('.differ-departs:has-text("within chance")');
    }
  });
});

for (const theme of ['light', 'dark']) {
  test(`${theme}: a range is chosen by dragging and by keyboard, and stays visible in every chart`, () =>
    at(
      `${ROUTE}&since=1h`,
      async (page) => {
        const over = page.locator('section[aria-label="Latency"] .u-over');
        await over.waitFor();
        await still(page);
        const rates = await pixels(page, 'Errors', 'accent');
        const box = await over.boundingBox();
        await page.mouse.move(box.x + box.width * 0.6, box.y + 40);
        await page.mouse.down();
        await page.mouse.move(box.x + box.width * 0.8, box.y + 60, { steps: 5 });
        const style = await page.locator('section[aria-label="Latency"] .u-select').evaluate((e) => getComputedStyle(e).borderLeftColor);
        await page.mouse.up();
        await page.waitForSelector('.differs');
        const chosen = (Date.parse(params(page).get('to')) - Date.parse(params(page).get('from'))) / 60_000;
        assert.ok(chosen > 10 && chosen < 14, `${chosen} minutes are chosen`);
        assert.equal(await page.evaluate((c) => c === getComputedStyle(document.querySelector('.view[aria-pressed]')).backgroundColor, style), false);
        for (const chart of ['Latency', 'Rate', 'Errors']) {
          await eventually(`the range in ${chart}`, async () => (await pixels(page, chart, 'accent')) > (chart === 'Errors' ? rates + 100 : 100));
        }

        // By keyboard: the chart is a slider that says its points, Shift chooses, Escape lets go, Enter takes.
        const chart = page.locator('section[aria-label="Latency"] [role="slider"]');
        await chart.focus();
        await page.keyboard.press('End');
        const before = await chart.getAttribute('aria-valuetext');
        assert.match(before, /calls · p50/);
        await page.keyboard.press('ArrowLeft');
        assert.notEqual(await chart.getAttribute('aria-valuetext'), before);
        const was = params(page).get('from');
        for (const k of ['Shift+ArrowLeft', 'Shift+ArrowLeft']) await page.keyboard.press(k);
        assert.match(await chart.getAttribute('aria-valuetext'), /^3 points chosen/);
        assert.ok((await page.locator('section[aria-label="Latency"] .u-select').evaluate((e) => e.offsetWidth)) > 3, 'the range is seen while it is chosen');
        await page.keyboard.press('Escape');
        assert.equal(params(page).get('from'), was, 'Escape takes nothing');
        for (const k of ['Shift+ArrowLeft', 'Shift+ArrowRight', 'Shift+ArrowRight', 'Enter']) await page.keyboard.press(k);
        await page.waitForFunction((was) => new URLSearchParams(location.hash.split('?')[1]).get('from') !== was, was);
        const [start, end] = ['from', 'to'].map((n) => Date.parse(params(page).get(n)));
        assert.equal(end - start, 2 * 60_000, 'two points of a minute');
      },
      { colorScheme: theme },
    ));
}

test('a regression is sorted first and marked where it started, the time before lies over the charts, interrupted calls have a colour', () =>
  withPage({}, async (page) => {
    // The server of the tests has no incident: its answers get one.
    const worse = 'GET /v1/operators/me';
    await page.route(/\/v1\/perf\?/, async (route) => {
      const answer = await route.fetch();
      const body = await answer.json();
      for (const row of body.rows ?? []) {
        row.changed = [];
        if (row.route === worse) Object.assign(row, { changed: ['p95'], p95_ms: 50, before: { ...row, p95_ms: 5 }, interrupted: 3 });
      }
      await route.fulfill({ response: answer, json: body });
    });
    await page.route(/\/v1\/perf\/series/, async (route) => {
      const answer = await route.fetch();
      const body = await answer.json();
      for (const line of body.series ?? []) {
        if (line.group !== worse && line.group !== '') continue;
        for (const [i, p] of line.points.entries()) Object.assign(p, { count: 10, interrupted: i % 4, p50_ms: 5, p95_ms: 6, p99_ms: i > 40 ? 60 : 7 });
        for (const p of line.before) Object.assign(p, { count: 10, p99_ms: 30 });
        line.started_at = line.points[Math.floor(line.points.length * 0.7)].at;
        line.started_by = 'latency';
      }
      await route.fulfill({ response: answer, json: body });
    });
    await shared.server.enter(page, shared.server.admin, '#/performance?since=1h');
    await page.click('.perf th button:has-text("Regression")');
    const first = page.locator('.perf tbody tr').first();
    await page.waitForSelector('.perf tbody tr:first-child .c-regression:has-text("p95 ×10")');
    assert.equal(params(page).get('sort'), 'regression');
    assert.match(await first.locator('.c-group').textContent(), /\/v1\/operators\/me/);
    await first.locator('.spark-start').first().waitFor({ state: 'attached' });
    await first.locator('.c-regression a').click();
    await page.waitForSelector('.differs');
    assert.match(await page.textContent('.started'), /^Slower since \d{4}-/);
    assert.ok(params(page).get('from'), 'the link is about the time since then');
    await eventually('the mark', async () => (await pixels(page, 'Latency', 'bad')) > 50);
    await eventually('interrupted calls', async () => (await pixels(page, 'Errors', 'cut')) > 20);
    const plain = await pixels(page, 'Latency', 'line-max');
    await page.check('.legend label:has-text("the time before") input');
    await eventually('the time before', async () => (await pixels(page, 'Latency', 'line-max')) > plain + 50);
    assert.equal(params(page).get('before'), '1');
  }));

for (const [width, height] of [
  [375, 812],
  [768, 1024],
  [1440, 900],
  [1920, 1080],
]) {
  for (const theme of ['light', 'dark']) {
    test(`${theme}, ${width} wide: accessible, latency in sight, and nothing scrolls sideways without a sign`, () =>
      withPage({ viewport: { width, height }, colorScheme: theme }, async (page) => {
        await shared.server.enter(page, shared.server.admin, '#/performance?since=1h&sort=regression&client=argusctl&not_status=5xx');
        await page.waitForSelector('.perf tbody tr, .empty');
        await page.waitForSelector('.chips');
        await accessible(page, 'the filtered list');
        await page.evaluate(() => (location.hash = '#/performance?since=1h'));
        await page.waitForSelector('.perf tbody tr .spark path', { state: 'attached' }); // the line of one point has no height
        const seen = await page.evaluate(() => {
          const inside = (e) => e.getBoundingClientRect().width > 0 && e.getBoundingClientRect().right <= innerWidth;
          const row = document.querySelector('.perf tbody tr');
          const p99 = [...row.querySelectorAll('td')].at(-3);
          return { spark: [...row.querySelectorAll('.spark')].some(inside), figure: inside(p99), text: p99.textContent };
        });
        assert.ok(seen.spark && seen.figure && / (ms|s)/.test(seen.text), JSON.stringify(seen));
        // Nor does a regression of another day, which these calls do not have.
        await page.evaluate(() => {
          const since = '<span class="sub-line"><a href="#">since 2026\u201111\u201129 12:00</a></span>';
          document.querySelector('.perf .c-regression').insertAdjacentHTML('beforeend', since);
        });
        for (const w of width === 1440 ? [width, 1280] : [width]) {
          await page.setViewportSize({ width: w, height });
          const fits = () => {
            const e = document.querySelector('.table-scroll');
            return e.scrollWidth <= e.clientWidth + 1;
          };
          await page.waitForFunction(fits, null, { timeout: 60_000 }).catch(() => assert.fail(`the table is wider than its box at ${w}`));
        }
        await page.setViewportSize({ width, height });
        for (const e of await page.$$('.filter-input, .results-count')) {
          assert.ok(await e.evaluate((n) => n.scrollWidth <= n.clientWidth + 1 && (!n.placeholder || n.clientWidth >= 170)), 'a text of the head is cut');
        }
        for (const [place, ready] of [
          ['#/performance?since=1h', '.perf tbody tr'],
          ['#/tenants', 'table'],
          ['#/settings/tokens?owner=all&ended=1', 'table, .empty'],
          ['#/services', 'table'],
        ]) {
          await page.evaluate((hash) => (location.hash = hash), place);
          await page.waitForSelector(ready);
          await page.waitForTimeout(200);
          await eventually(`the sign of a wider table at ${place}`, () =>
            page.evaluate(() => {
              const box = document.querySelector('.table-scroll');
              return !box || (getComputedStyle(box.parentElement, '::after').opacity === '1') === box.scrollWidth > box.clientWidth + 1;
            }),
          );
        }
        await page.evaluate((hash) => (location.hash = hash), `${ROUTE}&since=1h&differs=slow&before=1`);
        await page.waitForSelector('.differs .differs-about');
        await page.waitForSelector('.chart .u-over');
        await still(page);
        await accessible(page, 'a route, with what differs');
        const charts = () => page.$$eval('.chart, .differs', (l) => l.map((e) => e.getBoundingClientRect().right - innerWidth).filter((n) => n > 0));
        await none('the page is wider than its window', async () => [...(await tooWide(page)), ...(await charts())]);
      }));
  }
}
