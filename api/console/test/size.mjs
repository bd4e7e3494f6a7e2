// The budget: what the first page needs, compressed, without Clerk's library.
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const BUDGET = 100 * 1000;
const dist = fileURLToPath(new URL('../dist/', import.meta.url));
const html = await readFile(path.join(dist, 'index.html'), 'utf8');

/** Files the page loads by itself: those of index.html and what their modules import at once. */
const wanted = new Set([...html.matchAll(/(?:src|href)="\/([^"]+)"/g)].map((m) => m[1]));
for (const file of wanted) {
  if (!file.endsWith('.js')) continue;
  const code = await readFile(path.join(dist, file), 'utf8');
  for (const [, name] of code.matchAll(/(?:^|[;}])import\s*(?:[^'"()]*?from\s*)?["']\.\/([^"']+)["']/g)) wanted.add(path.join(path.dirname(file), name));
}
let total = gzipSync(html).length;
const parts = [];
for (const file of wanted) {
  const size = gzipSync(await readFile(path.join(dist, file)), { level: 9 }).length;
  parts.push(`${path.basename(file)} ${(size / 1000).toFixed(1)} kB`);
  total += size;
}
const lazy = (await readdir(path.join(dist, 'assets'))).filter((f) => f.endsWith('.js') && !wanted.has(`assets/${f}`));
console.log(
  `first load ${(total / 1000).toFixed(1)} kB compressed of ${BUDGET / 1000} (${parts.join(', ')}); loaded when needed: ${lazy.join(', ') || 'nothing'}`,
);
if ([...wanted].some((f) => f.includes('clerk'))) throw new Error('Clerk is in the first load');
if (!lazy.some((f) => f.includes('clerk'))) throw new Error('Clerk is not a chunk of its own');
if (total > BUDGET) throw new Error('the first load is over its budget');
