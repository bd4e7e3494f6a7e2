// How fast the console is. Each figure is a line as make bench collects them: FIGURE, name, ours, reference, ratio,
// target, verdict, separated by tabs. The reference for frames is the same browser showing an empty page at the same moment, so that a busy machine is told apart. Against the server of
// ARGUS_URL or an argusd dev of its own (as the browser tests); scrolling 100 000 rows is measured on the mock,
// which has as many at once.
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { launch, server } from './harness.mjs';
import { startMock } from './mock/server.mjs';

/** ok is the verdict: true, false, or undefined where there is no target. */
const print = (name, ours, reference, target, ok) =>
  console.log(['FIGURE', name, ours, reference || '-', '-', target || '-', ok === undefined ? '' : ok ? 'ok' : 'MISS'].join('\t'));
const size = execFileSync(process.execPath, [fileURLToPath(new URL('size.mjs', import.meta.url))]).toString();
const firstLoad = /first load ((\S+) kB)/.exec(size);
print('console: first load, compressed, without Clerk', firstLoad[1], '', '<= 100 kB', Number(firstLoad[2]) <= 100);

const browser = await launch();
const frames = `(ms) => new Promise((done) => {
  const gaps = []; let last = performance.now(); const end = last + ms;
  const tick = (now) => { gaps.push(now - last); last = now; now < end ? requestAnimationFrame(tick) : done(gaps); };
  requestAnimationFrame(tick);
})`;
/** Frames of a page, and of an empty one beside it. */
const both = async (page, ms) => {
  const idle = await (await browser.newContext({ viewport: { width: 1280, height: 800 } })).newPage();
  await idle.goto('data:text/html,<p>nothing');
  const [ours, reference] = await Promise.all([watch(page, ms), watch(idle, ms)]);
  await idle.context().close();
  return [ours, reference];
};
const dropped = (gaps) => gaps.filter((g) => g > 50).length;
const long = (gaps) => `${dropped(gaps)} of ${gaps.length}`;
const watch = (page, ms) => page.evaluate(`(${frames})(${ms})`);
const p = (list, q) => [...list].sort((a, b) => a - b)[Math.ceil(q * list.length) - 1];

const s = await server({ mock: { rows: 20_000 } });
try {
  const page = await (await browser.newContext({ viewport: { width: 1280, height: 800 } })).newPage();
  await page.addInitScript(() => {
    const seen = new MutationObserver(() => {
      if (!document.querySelector('tr[data-id]')) return;
      window.firstRow = performance.now();
      seen.disconnect();
    });
    seen.observe(document, { childList: true, subtree: true });
  });
  await page.goto(`${s.url}/#/settings/audit`);
  await page.click('text=Sign in at the local issuer');
  await page.locator('button[name=operator]').first().click();
  await page.waitForSelector('tr[data-id]');
  const times = [];
  for (let i = 0; i < 7; i++) {
    await page.reload();
    await page.waitForFunction(() => window.firstRow);
    times.push(await page.evaluate(() => window.firstRow));
  }
  print('console: reload to rows on show, median of 7', `${Math.round(p(times, 0.5))} ms`, '', '<= 1000 ms', p(times, 0.5) <= 1000);

  const client = `bench-${Date.now().toString(36)}`;
  await page.goto(`${s.url}/#/settings/audit?client=${client}&live=1`);
  await page.waitForSelector('.live.on.open');
  const rate = 500;
  const seconds = 10;
  let made = 0;
  const begun = performance.now();
  const callers = Array.from({ length: 16 }, async () => {
    for (;;) {
      const due = ((performance.now() - begun) / 1000) * rate;
      if (made >= rate * seconds) return;
      if (made > due) {
        await new Promise((resolve) => setTimeout(resolve, 2));
        continue;
      }
      made++;
      await (await s.call(s.admin, '/v1/operators/me', { headers: { 'User-Agent': `${client}/1` } })).arrayBuffer();
    }
  });
  const devtools = await page.context().newCDPSession(page);
  await devtools.send('Performance.enable', { timeDomain: 'threadTicks' });
  const busy = async () => (await devtools.send('Performance.getMetrics')).metrics.find((m) => m.name === 'TaskDuration').value;
  const busyBefore = await busy();
  const [gaps, idle] = await both(page, seconds * 1000);
  const busyMs = ((await busy()) - busyBefore) * 1000;
  await Promise.all(callers);
  const real = made / ((performance.now() - begun) / 1000);
  await page.waitForFunction((n) => Number(/([\d,]+) loaded/.exec(document.querySelector('.results-count').textContent)?.[1].replace(/\D/g, '')) >= n, made, {
    timeout: 30_000,
  });
  print('console: live tail, frames over 50 ms', `${long(gaps)} at ${Math.round(real)} rows/s`, long(idle), '0', dropped(gaps) === 0);
  print('console: live tail, the page’s thread, busy', `${(busyMs / seconds / 10).toFixed(0)} %`, '', '');
  print('console: live tail, frame p99', `${p(gaps, 0.99).toFixed(1)} ms`, `${p(idle, 0.99).toFixed(1)} ms`, '<= 50 ms', p(gaps, 0.99) <= 50);
} finally {
  await s.close();
}

const mock = await startMock({ rows: 101_000 });
try {
  const page = await (await browser.newContext({ viewport: { width: 1280, height: 800 } })).newPage();
  await page.goto(`${mock.url}/#/settings/audit?since=7d&not_client=none`);
  await page.click('.paste summary');
  await page.fill('.paste input', 'argus_pat_admin');
  await page.press('.paste input', 'Enter');
  await page.waitForSelector('tr[data-id]');
  const loaded = () => page.evaluate(() => Number(/([\d,]+) loaded/.exec(document.querySelector('.results-count').textContent)[1].replace(/\D/g, '')));
  while ((await loaded()) < 100_000) {
    await page.evaluate(() => {
      const main = document.querySelector('.main');
      main.scrollTop = main.scrollHeight;
    });
    await page.waitForTimeout(30);
  }
  const scrolling = page.evaluate(
    () =>
      new Promise((done) => {
        const main = document.querySelector('.main');
        const end = performance.now() + 5000;
        let y = 0;
        const step = (now) => {
          main.scrollTop = y += 170; // about 10 000 pixels a second
          now < end ? requestAnimationFrame(step) : done();
        };
        requestAnimationFrame(step);
      }),
  );
  const [gaps, idle] = await both(page, 5000);
  await scrolling;
  print('console: scrolling through 100 000 rows, frames over 50 ms', long(gaps), long(idle), '0', dropped(gaps) === 0);
  print('console: scrolling, frame p99', `${p(gaps, 0.99).toFixed(1)} ms`, `${p(idle, 0.99).toFixed(1)} ms`, '<= 50 ms', p(gaps, 0.99) <= 50);
} finally {
  mock.close();
  await browser.close();
}
