// Runs the browser tests, one file after the other, against one server: that of ARGUS_URL, else an `argusd dev`
// started for them, else (ARGUS_CONSOLE_MOCK=1) the mock. Arguments narrow the files: npm run test:browser live
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { server } from './harness.mjs';

const failures = fileURLToPath(new URL('failures.mjs', import.meta.url));
const dir = fileURLToPath(new URL('browser/', import.meta.url));
const only = process.argv.slice(2);
const files = (await readdir(dir)).filter((f) => f.endsWith('.test.mjs') && (only.length === 0 || only.some((o) => f.includes(o))));

const s = await server();
const env = { ...process.env, ARGUS_URL: s.url, ARGUS_TOKEN: s.admin, ARGUS_TOKEN_SUPPORT: s.support, ARGUS_TOKEN_TENANTS: s.tenants };
env.ARGUS_PID_CLICKHOUSE = String(s.clickhouse || '');
env.ARGUS_PID_POSTGRES = String(s.postgres || '');
env.ARGUS_SERVICES_FILE = s.services ?? '';
env.LEDGER_KEY = s.ledgerKey ?? ''; // without it pages.test.mjs checks no seal
env.ARGUS_CONSOLE_MOCKED = s.mock ? '1' : '';
delete env.ARGUS_CONSOLE_MOCK;

let child;
const stop = () => child?.kill('SIGINT');
process.on('SIGINT', stop);
process.on('SIGTERM', stop);

/** Runs files of tests; their exit code, and the tests that failed. */
async function run(files, ...flags) {
  const found = join(await mkdtemp(join(tmpdir(), 'argus-failed-')), 'failed');
  const reporters = ['--test-reporter=spec', '--test-reporter-destination=stdout', `--test-reporter=${failures}`, `--test-reporter-destination=${found}`];
  child = spawn(process.execPath, ['--test', '--test-concurrency=1', ...reporters, ...flags, ...files], { env, stdio: 'inherit' });
  const code = await new Promise((resolve) => child.on('exit', (c) => resolve(c ?? 1)));
  const failed = (await readFile(found, 'utf8')).split('\n').filter(Boolean).map(JSON.parse);
  return { code, failed };
}

let { code, failed } = await run(files.map((f) => dir + f));
// In CI a test that failed runs once more, as the Makefile says of Go's tests.
if (code && process.env.CI && failed.length > 0 && failed.length <= 3 && failed.every((f) => f.test)) {
  code = 0;
  for (const { file, test } of failed) code ||= (await run([file], `--test-name-pattern=^${test.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')}$`)).code;
  const unsteady = fileURLToPath(new URL('../../../bin/unsteady/', import.meta.url));
  await mkdir(unsteady, { recursive: true });
  await writeFile(`${unsteady}console`, failed.map((f) => `console, ${basename(f.file)}: ${f.test}\n`).join(''));
}
await s.close();
process.exit(code);
