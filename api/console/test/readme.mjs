// source .argus/env && npm run screens:readme: the two pictures of the README, into screens/, of a running make dev.
import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { launch, server } from './harness.mjs';

const out = fileURLToPath(new URL('../screens/', import.meta.url));
await mkdir(out, { recursive: true });
const s = await server();
const browser = await launch();
for (const [name, colorScheme, hash, wait] of [
  ['audit', 'light', '#/settings/audit?since=7d&not_method=GET', 'tr[data-id]'],
  ['performance', 'dark', '#/performance?since=7d&sort=p99', '.perf tbody tr .spark path'],
]) {
  const page = await (await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme, reducedMotion: 'reduce' })).newPage();
  await s.enter(page, s.admin, hash);
  await page.waitForSelector(wait);
  await page.waitForTimeout(400);
  await page.mouse.move(700, 20);
  await page.waitForTimeout(400);
  await page.screenshot({ path: `${out}${name}.png` });
  await page.close();
}
await browser.close();
await s.close();
