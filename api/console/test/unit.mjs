// Bundles the unit tests, which are TypeScript, and hands them to Node's own test runner.

import { spawnSync } from 'node:child_process';
import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';

const root = fileURLToPath(new URL('..', import.meta.url));
const out = path.join(root, 'build-unit');

const files = (await readdir(path.join(root, 'test/unit'))).filter((f) => f.endsWith('.test.ts'));
await build({
  root,
  configFile: false,
  publicDir: false,
  logLevel: 'warn',
  build: {
    ssr: true,
    outDir: out,
    emptyOutDir: true,
    target: 'node20',
    rolldownOptions: {
      input: Object.fromEntries(files.map((f) => [f.replace(/\.ts$/, ''), path.join(root, 'test/unit', f)])),
      output: { entryFileNames: '[name].mjs' },
    },
  },
});
const built = (await readdir(out)).filter((f) => f.endsWith('.test.mjs')).map((f) => path.join(out, f));
const run = spawnSync(process.execPath, ['--test', '--test-timeout=300000', '--test-reporter=spec', ...built], { stdio: 'inherit' });
await rm(out, { recursive: true, force: true });
process.exit(run.status ?? 1);
