// The browser, and the server the tests talk to: the one that ARGUS_URL and ARGUS_TOKEN… name, else `argusd dev`
// from bin/ (or where ARGUSD says), or, with ARGUS_CONSOLE_MOCK=1, the mock.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { startMock } from './mock/server.mjs';

export const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const BROWSERS = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  path.join(ROOT, 'bin/tools/chromium/chromium'),
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
];

export async function launch() {
  const executablePath = process.env.CHROMIUM || BROWSERS.find(existsSync);
  if (!executablePath) throw new Error('There is no Chromium. Run internal/setup/setup.sh test, or name one in CHROMIUM.');
  return chromium.launch({
    executablePath,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--disable-quic',
    ],
  });
}

/** Reads the exports of $ARGUS_DEV_DIR/env. */
async function readEnv(file) {
  const script = `set -a; . ${JSON.stringify(file)}; env -0`;
  const out = execFileSync('sh', ['-c', script], { env: { PATH: process.env.PATH } }).toString();
  return Object.fromEntries(
    out
      .split('\0')
      .filter(Boolean)
      .map((l) => [l.slice(0, l.indexOf('=')), l.slice(l.indexOf('=') + 1)]),
  );
}

async function startDev() {
  const dir = await mkdtemp(path.join(os.tmpdir(), 'argus-console-'));
  const child = spawn(process.env.ARGUSD ?? path.join(ROOT, 'bin/argusd'), ['dev', '--history', '0'], {
    cwd: ROOT,
    env: { ...process.env, ARGUS_DEV_DIR: dir, ARGUS_DEV_ADDR: '127.0.0.1:0' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output = (output + data).slice(-20_000)));
  const exited = new Promise((resolve) => child.on('exit', resolve));
  let over = false;
  void exited.then(() => (over = true));
  for (let i = 0; !output.includes('ARGUS is ready'); i++) {
    if (over || i > 3000) throw new Error(`argusd dev did not come up:\n${output}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const env = { ...(await readEnv(path.join(dir, 'env'))), ...(await readEnv(path.join(dir, 'admin.env'))) };
  env.LEDGER_KEY = JSON.parse(await readFile(path.join(dir, 'dev.json'), 'utf8')).ledger_key;
  return {
    env,
    close: async () => {
      child.kill('SIGINT');
      const late = setTimeout(() => child.kill('SIGKILL'), 60_000);
      await exited;
      clearTimeout(late);
      await rm(dir, { recursive: true, force: true, maxRetries: 20 }); // engines of one that was killed write to the last
    },
  };
}

/**
 * The server: url, tokens of three presets, and enter(page, token, hash), which opens the console signed in.
 * mock says whether the data is made up.
 */
export async function server(options = {}) {
  let env = process.env;
  let close = async () => undefined;
  let mock = false;
  if (process.env.ARGUS_CONSOLE_MOCK === '1') {
    const m = await startMock(options.mock);
    env = { ARGUS_URL: m.url, ARGUS_TOKEN: 'argus_pat_admin', ARGUS_TOKEN_SUPPORT: 'argus_pat_support', ARGUS_TOKEN_TENANTS: 'argus_pat_tenants' };
    close = async () => m.close();
    mock = true;
  } else if (!process.env.ARGUS_URL) {
    const dev = await startDev();
    env = dev.env;
    close = dev.close;
  }
  const url = env.ARGUS_URL.replace(/\/$/, '');
  return {
    url,
    mock,
    admin: env.ARGUS_TOKEN,
    support: env.ARGUS_TOKEN_SUPPORT,
    tenants: env.ARGUS_TOKEN_TENANTS,
    close,
    /** the public key of the ledger; undefined when it is not known */
    ledgerKey: env.LEDGER_KEY,
    /** the services file of the server; undefined when it is not known */
    services: env.ARGUS_SERVICES_FILE,
    /** the process that is ClickHouse; 0 when it is not known */
    clickhouse: Number(env.ARGUS_PID_CLICKHOUSE ?? 0),
    /** the process that is Postgres, whose children serve its sessions; 0 when it is not known */
    postgres: Number(env.ARGUS_PID_POSTGRES ?? 0),
    call: (token, pathname, init = {}) => fetch(url + pathname, { ...init, headers: { Authorization: `Bearer ${token}`, ...init.headers } }),
    json: async (token, pathname) => {
      const answer = await fetch(url + pathname, { headers: { Authorization: `Bearer ${token}` } });
      if (!answer.ok) throw new Error(`${pathname}: ${answer.status} ${await answer.text()}`);
      return answer.json();
    },
    enter: async (page, token, hash = '', from = url) => {
      await page.goto(`${from}/${hash}`);
      await page.waitForSelector('.sign-in');
      const paste = page.locator('.paste summary');
      if (!(await page.locator('.paste input').isVisible())) await paste.click();
      await page.fill('.paste input', token);
      await page.click('.paste button[type=submit]');
      await page.waitForSelector('.shell');
      await page.waitForSelector('.sign-in', { state: 'detached' });
    },
  };
}
