import type { ComponentChildren } from 'preact';
import { useMemo, useState } from 'preact/hooks';
import { Chips } from '../audit/chips';
import { type Filter, filterOf, withFilter } from '../lib/filter';
import { formatCount, formatMs, formatPercent, formatRate, formatShort, splitRoute } from '../lib/format';
import { call } from '../lib/http';
import { useKeys } from '../lib/keys';
import { usePoll } from '../lib/poll';
import { countedCalls, go, href, usePlace } from '../lib/router';
import { formatDuration, parseTime, timeOf, toRFC3339 } from '../lib/time';
import type { Perf, PerfSeries } from '../lib/types';
import { Empty, Skeleton, Spinner } from '../ui/bits';
import { Delta } from '../ui/delta';
import { Failure, SourceNotice, StaleNotice } from '../ui/notice';
import { Plot, type PlotSeries } from '../ui/plot';
import { WindowPicker } from '../ui/window-picker';
import { PERF_WINDOW } from './performance';

const QUANTILES: PlotSeries[] = [
  { label: 'max', colour: 'line-max', dash: [3, 3] },
  { label: 'p99', colour: 'line-p99' },
  { label: 'p95', colour: 'line-p95' },
  { label: 'p50', colour: 'line-p50' },
];
const RATE: PlotSeries[] = [{ label: 'calls a minute', colour: 'accent', fill: true }];
const ERRORS: PlotSeries[] = [
  { label: '4xx', colour: 'bar-warn' },
  { label: '5xx', colour: 'bar-bad', fill: true },
];

/** One route over time. */
export function RoutePage() {
  const { query } = usePlace();
  const filter = useMemo(() => filterOf(query), [query]);
  const since = filter.since || PERF_WINDOW;
  const route = query.get('route') ?? '';
  const [hover, setHover] = useState<number | null>(null);
  const [withMax, setWithMax] = useState(false);

  const params = withFilter(new URLSearchParams(), { ...filter, since });
  const key = params.toString();
  const series = usePoll<PerfSeries>(key, (signal) => call<PerfSeries>('/v1/perf/series', { signal, query: params }));
  const perf = usePoll<Perf>(key, (signal) => call<Perf>('/v1/perf', { signal, query: new URLSearchParams(`${key}&group_by=route&compare=true`) }));
  useKeys({
    r: () => {
      series.reload();
      perf.reload();
    },
  });

  const points = series.data?.series[0]?.points ?? [];
  const step = series.data?.step_seconds ?? 60;
  const columns = useMemo(() => {
    const start = series.data ? parseTime(series.data.since)! : 0;
    const end = series.data ? parseTime(series.data.until)! : 0;
    const at = points.map((p) => parseTime(p.at)! / 1000);
    const some = (value: (i: number) => number | null) => points.map((p, i) => (p.count > 0 ? value(i) : null));
    return {
      quantiles: [
        at,
        withMax ? some((i) => points[i]!.max_ms) : at.map(() => null),
        some((i) => points[i]!.p99_ms),
        some((i) => points[i]!.p95_ms),
        some((i) => points[i]!.p50_ms),
      ],
      // A bucket that the window cuts would look like a drop.
      rate: [at, points.map((p, i) => ((at[i]! + step) * 1000 > end || at[i]! * 1000 < start ? null : p.rpm))],
      errors: [at, some((i) => points[i]!.client_error_rate * 100), some((i) => points[i]!.error_rate * 100)],
    };
  }, [series.data, withMax]);

  const go2 = (s: string, u: string) => go(href('/performance/route', withFilter(query, { ...filter, since: s, until: u })));
  const audit = (s: string, u: string, extra: [string, string][] = []) => {
    const to = withFilter(new URLSearchParams(), { ...filter, since: s, until: u });
    for (const [name, value] of extra) to.append(name, value);
    return countedCalls(to);
  };
  const pick = (i: number) => {
    const at = columns.rate[0]![i]! as number;
    go(audit(toRFC3339(at * 1000), toRFC3339((at + step) * 1000)));
  };
  const select = (from: number, to: number) => go2(toRFC3339(Math.floor(from) * 1000), toRFC3339(Math.max(Math.floor(from) + 1, Math.ceil(to)) * 1000));

  // The heading names the route. Every other condition that narrows the figures is a chip.
  const own = filter.conditions.find((t) => t.name === 'route' && !t.not);
  const shown = { ...filter, conditions: filter.conditions.filter((t) => t !== own) };
  const change = (f: Filter) => go(href('/performance/route', withFilter(query, { ...f, conditions: [...(own ? [own] : []), ...f.conditions] })));
  const { method, path } = splitRoute(route);
  const figures = perf.data?.rows[0];
  const before = figures?.before && figures.before.count > 0 ? figures.before : null;
  const changed = new Set(figures?.changed ?? []);
  const from = series.data ? Math.min(parseTime(series.data.since)! / 1000, (columns.rate[0]![0] as number) ?? Infinity) : 0;
  const to = series.data ? Math.max(parseTime(series.data.until)! / 1000, ((columns.rate[0]![points.length - 1] as number) ?? 0) + step) : 1;
  const point = hover === null ? undefined : points[hover];
  const chart = { from, to, sync: 'route', onCursor: setHover, onPick: pick, onSelect: select };
  const rejected = series.error && !series.data ? series.error : null;

  return (
    <div class="page">
      <header class="page-head">
        <div class="head-route">
          <a class="crumb" href={href('/performance', withFilter(new URLSearchParams(), shown))}>
            Performance
          </a>
          <h1 class="mono wrap-anywhere">
            <span class={`method m-${method.toLowerCase()}`}>{method}</span> {path}
          </h1>
        </div>
        <div class="page-tools">
          <a class="button" href={audit(since, filter.until)}>
            Its calls
          </a>
          <WindowPicker since={since} until={filter.until} onChange={go2} />
        </div>
      </header>
      <Chips filter={shown} onChange={change} />
      <SourceNotice answer={series.data} />
      <StaleNotice polled={series} what="The charts" />
      {rejected ? (
        <Failure error={rejected} scope="logs:read" retry={series.reload} />
      ) : (
        <>
          <div class="figures" aria-label="Figures of the window">
            <FigureBox
              label="Calls"
              value={figures ? formatCount(figures.count) : '–'}
              note={figures && figures.interrupted > 0 ? `${formatCount(figures.interrupted)} interrupted` : ''}
            />
            <FigureBox
              label="A minute"
              value={figures ? formatRate(figures.rpm) : '–'}
              delta={figures && <Delta now={figures.rpm} before={before?.rpm} real={changed.has('rpm')} />}
            />
            <FigureBox
              label="Errors"
              value={figures ? formatPercent(figures.error_rate) : '–'}
              bad={(figures?.error_rate ?? 0) > 0}
              delta={figures && <Delta now={figures.error_rate} before={before?.error_rate} real={changed.has('error_rate')} bad="up" points />}
            />
            <FigureBox label="4xx" value={figures ? formatPercent(figures.client_error_rate) : '–'} />
            <FigureBox
              label="p50"
              value={formatMs(figures?.p50_ms ?? null)}
              delta={figures && <Delta now={figures.p50_ms} before={before?.p50_ms} real={changed.has('p50')} bad="up" />}
            />
            <FigureBox
              label="p95"
              value={formatMs(figures?.p95_ms ?? null)}
              delta={figures && <Delta now={figures.p95_ms} before={before?.p95_ms} real={changed.has('p95')} bad="up" />}
            />
            <FigureBox
              label="p99"
              value={formatMs(figures?.p99_ms ?? null)}
              delta={figures && <Delta now={figures.p99_ms} before={before?.p99_ms} real={changed.has('p99')} bad="up" />}
            />
            <FigureBox label="Max" value={formatMs(figures?.max_ms ?? null)} />
          </div>
          {figures && figures.p99_ms !== null && figures.count > 0 && (
            <p class="hint">
              <a href={audit(since, filter.until, [['latency_min', `${Math.max(1, Math.floor(figures.p99_ms * 1000))}us`]])}>The calls behind the p99</a>
              {' · '}
              <a href={audit(since, filter.until, [['status', '5xx']])}>server errors</a>
              {' · '}
              <a href={audit(since, filter.until, [['status', '4xx']])}>client errors</a>
              {' · press a point of a chart for the calls behind it, drag to zoom'}
            </p>
          )}
          {!series.data ? (
            <Skeleton rows={10} />
          ) : points.every((p) => p.count === 0 && p.interrupted === 0) ? (
            <Empty title="No calls in this window">Choose a longer one.</Empty>
          ) : (
            <div class={series.dataKey === key ? 'charts' : 'charts pending'}>
              <p class="chart-read mono" aria-hidden="true">
                {point ? (
                  <span>
                    <b>{timeOf(parseTime(point.at)!)}</b> + {formatDuration(step * 1000)} · {formatCount(point.count)} calls · p50 {formatMs(point.p50_ms)} ·
                    p95 {formatMs(point.p95_ms)} · p99 {formatMs(point.p99_ms)} · max {formatMs(point.max_ms)} · 5xx {formatPercent(point.error_rate)} · 4xx{' '}
                    {formatPercent(point.client_error_rate)}
                  </span>
                ) : (
                  <span class="faint">Points of {formatDuration(step * 1000)} each</span>
                )}
                {series.loading && <Spinner />}
              </p>
              <section class="chart" aria-label="Latency">
                <h2>
                  Latency
                  <span class="legend">
                    <span class="swatch line-p50" /> p50 <span class="swatch line-p95" /> p95 <span class="swatch line-p99" /> p99
                    <label class="check">
                      <input type="checkbox" checked={withMax} onChange={(e) => setWithMax(e.currentTarget.checked)} /> max
                    </label>
                  </span>
                </h2>
                <Plot
                  {...chart}
                  label={`Latency over time: p50 ${formatMs(figures?.p50_ms ?? null)}, p95 ${formatMs(figures?.p95_ms ?? null)}, p99 ${formatMs(figures?.p99_ms ?? null)} over the window`}
                  height={220}
                  data={columns.quantiles}
                  series={QUANTILES}
                  format={formatMs}
                />
              </section>
              <section class="chart" aria-label="Rate">
                <h2>Calls a minute</h2>
                <Plot
                  {...chart}
                  label={`Calls a minute over time, ${formatRate(figures?.rpm ?? 0)} on average`}
                  height={130}
                  data={columns.rate}
                  series={RATE}
                  format={formatShort}
                  floor={1}
                />
              </section>
              <section class="chart" aria-label="Errors">
                <h2>
                  Errors
                  <span class="legend">
                    <span class="swatch bar-warn" /> 4xx <span class="swatch bar-bad" /> 5xx
                  </span>
                </h2>
                <Plot
                  {...chart}
                  label={`Share of errors over time: ${formatPercent(figures?.error_rate ?? 0)} server errors, ${formatPercent(figures?.client_error_rate ?? 0)} client errors`}
                  height={130}
                  data={columns.errors}
                  series={ERRORS}
                  format={(v) => `${v < 10 && v > 0 ? v.toFixed(1) : v.toFixed(0)} %`}
                  floor={1}
                />
              </section>
            </div>
          )}
        </>
      )}
    </div>
  );
}

function FigureBox({ label, value, delta, note, bad }: { label: string; value: string; delta?: ComponentChildren; note?: string; bad?: boolean }) {
  return (
    <div class="figure">
      <span class="figure-label">{label}</span>
      <span class={`figure-value ${bad ? 'tone-bad' : ''}`}>{value}</span>
      {delta}
      {note && <span class="delta tone-warn">{note}</span>}
    </div>
  );
}
