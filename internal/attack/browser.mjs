// What package attack does in Chromium: see browser.go. It reads what to do from its standard input and writes a list
// of attempts, each with what was seen, empty when it was held.
import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';

let input = '';
for await (const chunk of process.stdin) input += chunk;
const { url, token, run, texts, playwright } = JSON.parse(input);
const { chromium } = await import(pathToFileURL(playwright));
const executablePath = process.env.CHROMIUM || ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);
if (!executablePath) {
  console.error('There is no Chromium. Install it, or name it in CHROMIUM.');
  process.exit(1);
}
const results = [];
const note = (Attempt, Seen = '') => results.push({ Attempt, Seen });
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update'] });
try {
  const context = await browser.newContext({ viewport: { width: 1400, height: 900 } });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const strangers = new Set();
  page.on('request', (r) => new URL(r.url()).host !== new URL(url).host && strangers.add(r.url()));
  await page.goto(`${url}/`);
  await page.waitForSelector('.sign-in');
  if (!(await page.locator('.paste input').isVisible())) await page.locator('.paste summary').click();
  await page.fill('.paste input', token);
  await page.click('.paste button[type=submit]');
  await page.waitForSelector('.shell');

  const invisible = /[\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|[\u{e0000}-\u{e007f}]/u;
  for (const [id, both] of Object.entries(texts)) {
    const [name, text] = both.split('\0');
    await page.goto(`${url}/#/settings/audit?id=${id}&since=1h`);
    await page.waitForSelector(`tr[data-id="${id}"]`);
    await page.click(`tr[data-id="${id}"]`);
    await page.waitForFunction((t) => document.body.innerText.includes(t), run);
    const shown = await page.evaluate(() => document.querySelector('.main')?.innerText ?? document.body.innerText);
    const pwned = await page.evaluate(() => window.pwned);
    const inserted = await page.evaluate(() => [...document.querySelectorAll('.main b, .main script, .main img[onerror], .main svg[onload], a[href^="javascript:" i]')].filter((e) => /pwned|bold/.test(e.outerHTML)).length);
    note(`show ${name} in the log`, pwned ? 'its script ran' : inserted ? 'it became part of the page' : invisible.test(shown) ? 'it is shown as it is, and so not seen' : '');
    if (invisible.test(text)) {
      const link = await page.evaluate(() => [...document.querySelectorAll('.main *')].some((e) => /[\u202a-\u202e\u2066-\u2069]/.test(e.getAttribute('title') ?? '')));
      note(`show ${name} in a tooltip`, link ? 'a tooltip turns its text around' : '');
    }
  }
  await page.goto(`${url}/#/settings/tokens`);
  await page.waitForTimeout(500);
  note("run a script in a token's name", (await page.evaluate(() => window.pwned)) ? 'its script ran' : '');
  for (const hash of ['#/settings/audit?actor=<img src=x onerror=window.pwned=1>', '#javascript:window.pwned=1', '#/settings/audit?route=%3Cscript%3Ewindow.pwned=1%3C/script%3E', '#/../../x', '#//evil.example', '#/settings/audit?cursor=' + 'A'.repeat(3000)]) {
    await page.goto(`${url}/${hash}`);
    await page.waitForTimeout(300);
    note(`open the link ${hash.slice(0, 60)}`, (await page.evaluate(() => window.pwned)) ? 'its script ran' : new URL(page.url()).host !== new URL(url).host ? `it led to ${page.url()}` : '');
  }
  note('send anything to another host', strangers.size ? [...strangers].join(' ') : '');
  note('keep the token in a cookie', (await context.cookies()).length ? 'a cookie was set' : '');
  note('show the token in the address', page.url().includes('argus_pat') ? page.url() : '');
  for (const [what, code] of [['an inline script', "const s = document.createElement('script'); s.textContent = 'window.pwned = 2'; document.head.append(s)"], ['eval', "try { (0, eval)('window.pwned = 2') } catch {}"],
    ['a script of another host', "const s = document.createElement('script'); s.src = 'http://127.0.0.1:1/x.js'; document.head.append(s)"]]) {
    await page.addInitScript(() => undefined);
    const before = await page.evaluate(() => window.pwned ?? 0);
    if (what === 'eval') { // the debugger's own evaluation is exempt: a handler of the page's is not
      await page.evaluate(() => { const b = document.createElement('button'); b.setAttribute('onclick', 'window.pwned = 2'); document.body.append(b); b.click(); b.remove(); });
    } else await page.evaluate(code);
    await page.waitForTimeout(200);
    note(`run ${what} in the page`, (await page.evaluate(() => window.pwned ?? 0)) !== before ? 'it ran' : '');
  }
  // A page of another origin: it may neither frame the console nor read the API.
  const other = createServer((_, res) => res.setHeader('content-type', 'text/html').end(`<iframe id=f src="${url}/"></iframe>`));
  await new Promise((done) => other.listen(0, '127.0.0.1', done));
  const evil = await context.newPage();
  await evil.goto(`http://127.0.0.1:${other.address().port}/`);
  await evil.waitForTimeout(500);
  note('frame the console', evil.frames().some((f) => f.url().startsWith(url)) ? 'it is framed' : '');
  const read = await evil.evaluate(async ([u, t]) => {
    const out = [];
    for (const init of [{}, { credentials: 'include' }, { headers: { Authorization: `Bearer ${t}` } }, { mode: 'no-cors' }]) {
      try { const r = await fetch(`${u}/v1/tenants`, init); if (r.type !== 'opaque') out.push(r.status); } catch { /* rejected by the browser */ }
    }
    return out;
  }, [url, token]);
  note("read the API from another origin's page", read.length ? `answered ${read}` : '');
  other.close();
} finally {
  await browser.close();
}
console.log(JSON.stringify(results));
