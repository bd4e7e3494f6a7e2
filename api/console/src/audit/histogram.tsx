import { useMemo, useState } from 'preact/hooks';
import { formatShort, plural } from '../lib/format';
import { formatDuration, parseTime, timeOf, toRFC3339 } from '../lib/time';
import type { Facets } from '../lib/types';
import { Plot } from '../ui/plot';

const SERIES = [
  { label: 'answered', colour: 'bar', bars: true },
  { label: '4xx', colour: 'bar-warn', bars: true },
  { label: '5xx', colour: 'bar-bad', bars: true },
  { label: 'interrupted', colour: 'cut', bars: true },
];

/** Calls over time. Dragging over it chooses the window, a click the bar's. */
export function Histogram({ facets, onSelect }: { facets: Facets | undefined; onSelect: (since: string, until: string) => void }) {
  const [hover, setHover] = useState<number | null>(null);
  const bars = facets?.histogram ?? [];
  const step = facets?.step_seconds ?? 60;
  const data = useMemo(
    () => [
      bars.map((b) => parseTime(b.at)! / 1000),
      // Drawn one over the other, each from zero: what sticks out is the next kind.
      bars.map((b) => b.count),
      bars.map((b) => b.client_errors + b.errors + b.interrupted),
      bars.map((b) => b.errors + b.interrupted),
      bars.map((b) => b.interrupted),
    ],
    [facets],
  );
  const start = data[0]![0] ?? 0;
  const end = (data[0]![bars.length - 1] ?? 1) + step;
  const since = facets?.since ? parseTime(facets.since)! / 1000 : start;
  const until = facets?.until ? parseTime(facets.until)! / 1000 : end;
  const bar = hover === null ? undefined : bars[hover];
  const busiest = bars.reduce((best, b) => (b.count > (best?.count ?? 0) ? b : best), bars[0]);
  const errors = bars.reduce((n, b) => n + b.errors, 0);
  const label = facets
    ? `Calls over time: ${plural(facets.total, 'call')}, ${plural(errors, 'server error')}${busiest && busiest.count > 0 ? `, most at ${timeOf(parseTime(busiest.at)!)}` : ''}`
    : 'Calls over time';
  const at = bar ? parseTime(bar.at)! : 0;

  return (
    <section class="histogram" aria-label="Calls over time">
      <p class="histogram-read" aria-hidden="true">
        {bar ? (
          <>
            <b>{timeOf(at)}</b> + {formatDuration(step * 1000)}: {plural(bar.count, 'call')}
            {bar.client_errors > 0 && <span class="tone-warn"> · {plural(bar.client_errors, 'client error')}</span>}
            {bar.errors > 0 && <span class="tone-bad"> · {plural(bar.errors, 'error')}</span>}
            {bar.interrupted > 0 && <span class="tone-cut"> · {bar.interrupted} interrupted</span>}
          </>
        ) : (
          <span class="faint">
            <span class="swatch bar" /> answered <span class="swatch bar-warn" /> 4xx <span class="swatch bar-bad" /> 5xx <span class="swatch bar-cut" />{' '}
            interrupted <span class="hint">· drag to choose a window</span>
          </span>
        )}
      </p>
      <Plot
        label={label}
        height={96}
        data={data}
        series={SERIES}
        from={Math.min(since, start || since)}
        to={Math.max(until, end)}
        format={formatShort}
        floor={4}
        onCursor={setHover}
        onPick={(i) => {
          const t = data[0]![i]! * 1000;
          onSelect(toRFC3339(t), toRFC3339(t + step * 1000));
        }}
        onSelect={(from, to) => {
          // Whole seconds, at least one: finer than a pixel means nothing.
          const a = Math.floor(from);
          onSelect(toRFC3339(a * 1000), toRFC3339(Math.max(a + 1, Math.ceil(to)) * 1000));
        }}
      />
    </section>
  );
}
