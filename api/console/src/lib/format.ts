const count = new Intl.NumberFormat('en-US');

/** 12,345 */
export function formatCount(n: number): string {
  return count.format(n);
}

/** 1.2k, 3.4M: for where there is little room. */
export function formatShort(n: number): string {
  if (n < 1000) return n < 10 && !Number.isInteger(n) ? n.toFixed(1) : String(Math.round(n));
  for (const [unit, size] of [
    ['G', 1e9],
    ['M', 1e6],
    ['k', 1e3],
  ] as const) {
    if (n >= size) return `${(n / size).toFixed(n / size < 10 ? 1 : 0)}${unit}`;
  }
  return String(n);
}

/** Milliseconds in three digits or so: 0.84 ms, 12.3 ms, 1.24 s. */
export function formatMs(ms: number | null): string {
  if (ms === null) return '–';
  if (ms === 0) return '0 ms';
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 100) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(2)} s`;
  return `${(ms / 1000).toFixed(1)} s`;
}

/** A rate a minute. */
export function formatRate(n: number): string {
  if (n === 0) return '0';
  if (n < 0.005) return '< 0.01';
  if (n < 0.1) return n.toFixed(2);
  if (n < 100) return n.toFixed(1);
  return formatCount(Math.round(n));
}

/** A fraction of 1 as a percentage: 0 %, 0.04 %, 12.5 %. */
export function formatPercent(fraction: number): string {
  const p = fraction * 100;
  if (p === 0) return '0 %';
  if (p < 0.01) return '< 0.01 %';
  if (p < 1) return `${p.toFixed(2)} %`;
  if (p < 99.95) return `${p.toFixed(1)} %`;
  return '100 %';
}

export function formatBytes(n: number): string {
  if (n < 1024) return `${n} B`;
  if (n < 1024 * 1024) return `${(n / 1024).toFixed(1)} KiB`;
  return `${(n / 1024 / 1024).toFixed(1)} MiB`;
}

/** A price in US dollars an hour. */
export function formatPrice(n: number): string {
  return `$${n.toFixed(2)}`;
}

/** A figure for which few digits are enough. */
export function formatFigure(n: number): string {
  return Number.isInteger(n) ? formatCount(n) : String(Number(n.toPrecision(n >= 1000 ? 6 : 3)));
}

/** "1 call", "2 calls". */
export function plural(n: number, one: string, many = `${one}s`): string {
  return `${formatCount(n)} ${n === 1 ? one : many}`;
}

/** The start and the end of a long id. */
export function shortId(id: string, keep = 6): string {
  return id.length <= keep * 2 + 1 ? id : `${id.slice(0, keep)}…${id.slice(-keep)}`;
}

/** What stands before the first slash or space of a user agent; see argus.ClientName. */
export function clientName(userAgent: string): string {
  return /^[^/ ]*/.exec(userAgent)![0];
}

const BROWSERS: [RegExp, string][] = [
  [/\bEdgA?\/(\d+)/, 'Edge'],
  [/\bOPR\/(\d+)/, 'Opera'],
  [/\b(?:Firefox|FxiOS)\/(\d+)/, 'Firefox'],
  [/\b(?:Headless)?Chrome\/(\d+)/, 'Chrome'],
  [/\bCriOS\/(\d+)/, 'Chrome'],
  [/\bVersion\/(\d+)[.\d]* (?:Mobile\/\w+ )?Safari\//, 'Safari'],
];

/** What a person calls the program: "Chrome 141" for a browser, whose user agents all start with Mozilla. */
export function agentName(userAgent: string): string {
  if (!userAgent.startsWith('Mozilla/')) return clientName(userAgent);
  for (const [pattern, name] of BROWSERS) {
    const found = pattern.exec(userAgent);
    if (found) return `${name} ${found[1]}`;
  }
  return clientName(userAgent);
}

/** The method and the path of a route. */
export function splitRoute(route: string): { method: string; path: string } {
  const gap = route.indexOf(' ');
  return gap < 0 ? { method: '', path: route } : { method: route.slice(0, gap), path: route.slice(gap + 1) };
}
