// What every browser test starts with: a page that fails the test on a script error, on anything its
// Content-Security-Policy blocked, and on any request to another host.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before } from 'node:test';
import { launch, server } from '../harness.mjs';

export const shared = {};

/** Starts the browser for a file of tests. */
export function setup() {
  before(async () => {
    shared.server = await server();
    shared.browser = await launch();
  });
  after(async () => {
    await shared.browser?.close();
    await shared.server?.close();
  });
  return shared;
}

/** Opens a page, runs the test in it, and looks at what went wrong beside it. */
export async function withPage(options, run) {
  const context = await shared.browser.newContext({ viewport: { width: 1280, height: 800 }, reducedMotion: 'reduce', acceptDownloads: true, ...options });
  await context.addInitScript(() => {
    window.blocked = [];
    document.addEventListener('securitypolicyviolation', (e) => window.blocked.push(`${e.violatedDirective} ${e.blockedURI}`));
    window.told = []; // toasts go after a few seconds, in which a slow machine may not look
    new MutationObserver((changes) => {
      for (const node of changes.flatMap((c) => [...c.addedNodes]))
        if (node.classList?.contains('toast')) window.told.push({ text: node.textContent, link: node.querySelector('a') !== null });
    }).observe(document, { childList: true, subtree: true });
  });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  const errors = [];
  const strangers = new Set();
  page.on('pageerror', (e) => errors.push(e.stack ?? e.message));
  // "Failed to load resource" is the browser's word for an answer that the page handles.
  page.on('console', (m) => m.type() === 'error' && !/Failed to load resource|net::ERR/.test(m.text()) && errors.push(m.text()));
  const home = new URL(options.url ?? shared.server.url);
  page.on('request', (r) => {
    const { protocol, host, hostname } = new URL(r.url());
    if (/^https?:$/.test(protocol) && host !== home.host && hostname !== '127.0.0.1') strangers.add(host);
  });
  try {
    await run(page, context);
    assert.deepEqual(errors, [], 'errors in the page');
    assert.deepEqual(
      [...strangers].filter((h) => !(options.hosts ?? []).includes(h)),
      [],
      'requests to other hosts',
    );
    assert.deepEqual(await page.evaluate(() => window.blocked ?? []), [], 'blocked by the Content-Security-Policy');
  } catch (cause) {
    const name = `failed-${Date.now()}.png`;
    await page.screenshot({ path: new URL(`../../build-screens/${name}`, import.meta.url).pathname }).catch(() => undefined);
    if (cause instanceof Error) cause.message += `\n(at ${page.url()}, picture in build-screens/${name})`;
    throw cause;
  } finally {
    await page.unrouteAll({ behavior: 'ignoreErrors' });
    await context.close();
  }
}

/** A page signed in with a token at a place. */
export function at(hash, run, { token, ...options } = {}) {
  return withPage(options, async (page, context) => {
    await shared.server.enter(page, token ?? shared.server.admin, hash);
    await run(page, context);
  });
}

/** A user agent of this test alone, so that it finds its own calls. */
export function agent(name) {
  return `${name}-${Math.random().toString(36).slice(2, 10)}`;
}

/** Makes n calls with a user agent, some at once; answers the ids of their rows. */
export async function makeCalls(n, client, { path = '/v1/operators/me', token, parallel = 8 } = {}) {
  const ids = [];
  let left = n;
  await Promise.all(
    Array.from({ length: Math.min(parallel, n) }, async () => {
      while (left-- > 0) {
        const answer = await shared.server.call(token ?? shared.server.admin, path, { headers: { 'User-Agent': `${client}/1.0` } });
        ids.push(answer.headers.get('argus-audit-id'));
        await answer.arrayBuffer();
      }
    }),
  );
  return ids;
}

/** Waits until a check of the page's own holds. */
export async function eventually(what, check, timeout = 60_000) {
  const end = Date.now() + timeout;
  let last;
  for (;;) {
    try {
      last = await check();
      if (last) return last;
    } catch (cause) {
      last = cause;
    }
    if (Date.now() > end) throw new Error(`${what}: not within ${timeout} ms (${last instanceof Error ? last.message : JSON.stringify(last)})`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Waits until the page has drawn what its last scroll or change asked for: frames follow the events that they are of. */
export const drawn = (page) =>
  page.evaluate(async () => {
    for (let i = 0; i < 4; i++) await new Promise(requestAnimationFrame);
  });

export const rows = (page) => page.locator('tr[data-id]');

/**
 * Waits for the audit page's first rows, and for those of a search that is under way; the number of calls it counts. The count
 * and the rows are two answers, of which either comes first.
 */
export async function auditReady(page) {
  await page.waitForSelector('tr[data-id], .empty');
  await page.waitForFunction(
    () =>
      /^[\d,]+ calls?/.test(document.querySelector('.results-count')?.textContent ?? '') &&
      document.querySelector('.log-area')?.getAttribute('aria-busy') === 'false',
  );
  return Number((await page.textContent('.results-count b')).replace(/\D/g, ''));
}

/** Waits until a toast has said a text, and whether it has a link to its call. */
export const told = (page, text, link) =>
  page.waitForFunction(([text, link]) => window.told.some((t) => t.text.startsWith(text) && t.link === link), [text, link]);

/** Waits until a measure of the page finds nothing: a page is laid out anew after its window, and after what it shows, has changed. */
export async function none(what, measure) {
  let found;
  await eventually(what, async () => (found = await measure()).length === 0).catch(() => assert.deepEqual(found, [], what));
}

/** What the page is wider than: its window, the part that scrolls. */
export const tooWide = (page) =>
  page.evaluate(() => {
    const main = document.querySelector('.main');
    const over = { window: document.documentElement.scrollWidth - innerWidth, main: main.scrollWidth - main.clientWidth };
    return Object.entries(over).filter(([, n]) => n > 0);
  });

/** Waits until nothing on the page is on its way, so that what is measured stays where it is. Older rows wait for the scroll. */
export const still = (page) =>
  page.waitForFunction(() => !document.querySelector('.main :is(.skeleton, .pending, [aria-busy=true], .spinner:not(.log-foot *))'));

/** Presses keys one right after the other, however slow the machine is. */
export const pressAtOnce = (page, ...keys) =>
  page.evaluate((keys) => {
    for (const key of keys) (document.activeElement ?? document.body).dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }));
  }, keys);

/**
 * Waits until the page says that no call had a value. A log that is too slow to tell is searched for it as it stands; then it is
 * asked again.
 */
export const unheard = (page, said = '.unknown-value') =>
  eventually(said, async () => {
    if ((await page.locator(said).count()) > 0) return true;
    if ((await page.locator('.main :is(.log-area, .table-wrap)[aria-busy=false]').count()) > 0) await page.keyboard.press('r');
    return false;
  });

/** Scrolls until the last page is loaded; the number of rows then. */
export async function scrollToEnd(page) {
  await eventually(
    'the end of the log',
    async () => {
      await page.evaluate(() => {
        const main = document.querySelector('.main');
        main.scrollTop = main.scrollHeight;
      });
      return (await page.textContent('.log-foot'))?.startsWith('The end');
    },
    60_000,
  );
  return Number((await page.textContent('.log-foot')).replace(/\D/g, ''));
}

/** Ids of the rows that are elements now. */
export const shownIds = (page) => page.$$eval('tr[data-id]', (list) => list.map((r) => r.dataset.id));

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** Every rule of axe holds on the page as it stands. */
export async function accessible(page, what) {
  const found = await page.evaluate(`(async () => { ${axe}; return (await axe.run(document, { resultTypes: ['violations'] })).violations; })()`);
  assert.deepEqual(
    found.map(
      (v) =>
        `${v.id}: ${v.nodes
          .map((n) => `${n.target} ${n.failureSummary}`)
          .slice(0, 3)
          .join(' | ')}`,
    ),
    [],
    what,
  );
}
