// Runs the browser tests, one file after the other, against one server: that of ARGUS_URL, else an `argusd dev`
// started for them, else (ARGUS_CONSOLE_MOCK=1) the mock. Arguments narrow the files: npm run test:browser live
import { spawn } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { server } from './harness.mjs';

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
const child = spawn(process.execPath, ['--test', '--test-concurrency=1', '--test-reporter=spec', ...files.map((f) => dir + f)], { env, stdio: 'inherit' });
const stop = () => child.kill('SIGINT');
process.on('SIGINT', stop);
process.on('SIGTERM', stop);
const code = await new Promise((resolve) => child.on('exit', (c) => resolve(c ?? 1)));
await s.close();
process.exit(code);
