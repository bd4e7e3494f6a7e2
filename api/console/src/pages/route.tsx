import type { ComponentChildren } from 'preact';
import { useMemo } from 'preact/hooks';
import { FilterBar } from '../audit/filter-bar';
import { addCondition, type Filter, filterOf, withFilter } from '../lib/filter';
import { formatCount, formatMs, formatPercent, formatRate, splitRoute } from '../lib/format';
import { call } from '../lib/http';
import { useKeys } from '../lib/keys';
import { usePoll } from '../lib/poll';
import { countedCalls, go, href, setQuery, usePlace } from '../lib/router';
import { parseTime, timeOf, toRFC3339 } from '../lib/time';
import type { Operator, Perf, PerfFigures, PerfSeries } from '../lib/types';
import { DiffersPanel, KINDS } from '../perf/differs';
import { RouteCharts } from '../perf/route-charts';
import { Empty, Skeleton } from '../ui/bits';
import { Delta } from '../ui/delta';
import * as icons from '../ui/icons';
import { Failure, SourceNotice, StaleNotice } from '../ui/notice';
import { WindowPicker, windowLabel } from '../ui/window-picker';
import { PERF_WINDOW } from './performance';

/** One route over time, and for whom some of its calls differ. */
export function RoutePage({ me }: { me: Operator }) {
  const { query } = usePlace();
  const filter = useMemo(() => filterOf(query), [query]);
  const since = filter.since || PERF_WINDOW;
  const route = query.get('route') ?? '';
  const overlay = query.get('before') === '1';
  // The region: a range of time, or how calls went, or both. Its calls are set beside others.
  const range = query.has('from') && query.has('to') ? ([query.get('from')!, query.get('to')!] as const) : null;
  const kind = query.get('differs') ?? '';
  const baseline = query.get('beside') ?? '';

  const params = withFilter(new URLSearchParams(), { ...filter, since });
  const key = params.toString();
  const series = usePoll<PerfSeries>(key, (signal) => call<PerfSeries>('/v1/perf/series', { signal, query: new URLSearchParams(`${key}&compare=true`) }));
  const perf = usePoll<Perf>(key, (signal) => call<Perf>('/v1/perf', { signal, query: new URLSearchParams(`${key}&group_by=route&compare=true`) }));
  useKeys({
    '/': () => document.getElementById('search')?.focus(),
    r: () => {
      series.reload();
      perf.reload();
    },
  });

  const line = series.data?.series[0];
  const points = line?.points ?? [];
  const step = series.data?.step_seconds ?? 60;
  const go2 = (s: string, u: string) => go(href('/performance/route', withFilter(query, { ...filter, since: s, until: u })));
  const audit = (s: string, u: string, extra: [string, string][] = []) => {
    const to = withFilter(new URLSearchParams(), { ...filter, since: s, until: u });
    for (const [name, value] of extra) to.append(name, value);
    return countedCalls(to);
  };
  const choose = (from: number, to: number) =>
    setQuery({
      from: toRFC3339(Math.floor(from) * 1000),
      to: toRFC3339(Math.max(Math.floor(from) + 1, Math.ceil(to)) * 1000),
      ...(kind === 'all' && { differs: null }),
    });

  const differs = useMemo(() => {
    if (!range && kind === '') return null;
    const q = new URLSearchParams(key);
    if (range) {
      q.set('region_since', range[0]);
      q.set('region_until', range[1]);
    }
    if (kind !== '' && kind !== 'all') q.set('region', kind);
    // Of the whole window there is no rest.
    if (baseline && (range || kind !== 'all')) q.set('baseline', baseline);
    return q;
  }, [key, range?.[0], range?.[1], kind, baseline]);

  // The heading names the route. Every other condition that narrows the figures is a chip.
  const own = filter.conditions.find((t) => t.name === 'route' && !t.not);
  const shown = { ...filter, conditions: filter.conditions.filter((t) => t !== own) };
  const change = (f: Filter) => go(href('/performance/route', withFilter(query, { ...f, conditions: [...(own ? [own] : []), ...f.conditions] })));
  const { method, path } = splitRoute(route);
  const figures = perf.data?.rows[0];
  const changed = new Set(figures?.changed ?? []);
  const started = line?.started_at ? parseTime(line.started_at)! / 1000 : null;
  const rejected = series.error && !series.data ? series.error : null;
  const seconds = (text: string) => parseTime(text)! / 1000;

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
      <FilterBar filter={shown} since={since} me={me} placeholder="actor:… tenant:… status:5xx -client:argusctl" onChange={change} />
      <SourceNotice answer={series.data} />
      <StaleNotice polled={series} what="The charts" />
      {rejected ? (
        <Failure error={rejected} scope="logs:read" retry={series.reload} />
      ) : (
        <>
          <Figures figures={figures} changed={changed} />
          {figures && figures.p99_ms !== null && figures.count > 0 && (
            <p class="hint">
              <a href={audit(since, filter.until, [['latency_min', `${Math.max(1, Math.floor(figures.p99_ms * 1000))}us`]])}>The calls behind the p99</a>
              {' · '}
              <a href={audit(since, filter.until, [['status', '5xx']])}>server errors</a>
              {' · '}
              <a href={audit(since, filter.until, [['status', '4xx']])}>client errors</a>
              {figures.interrupted > 0 && (
                <>
                  {' · '}
                  <a href={audit(since, filter.until, [['outcome', 'interrupted']])}>interrupted calls</a>
                </>
              )}
            </p>
          )}
          {started !== null && (
            <p class="started">
              <span class="tone-bad">{line!.started_by === 'errors' ? 'More errors' : 'Slower'} since</span> <b>{timeOf(started * 1000)}</b>
              {started < seconds(series.data!.since) ? ', before this window. ' : '. '}
              <button type="button" class="link" onClick={() => choose(started, seconds(series.data!.until))}>
                For whom?
              </button>
            </p>
          )}
          <div class="region-bar" role="group" aria-label="What differs">
            <span class="region-label">What differs</span>
            <div class="views" role="group" aria-label="Of which calls">
              {[...KINDS, ...(range ? [] : ([['all', 'This window']] as [string, string][]))].map(([name, label]) => (
                <button key={name} type="button" class="view" aria-pressed={kind === name} onClick={() => setQuery({ differs: kind === name ? null : name })}>
                  {label}
                </button>
              ))}
            </div>
            {range && (
              <span class="chip-body region-chip">
                <span class="region-range">{windowLabel(range[0], range[1])}</span>
                <button type="button" class="chip-remove" aria-label="Let the range go" onClick={() => setQuery({ from: null, to: null })}>
                  <icons.Close />
                </button>
              </span>
            )}
            {range && (
              <>
                <button type="button" class="button small" onClick={() => go(href('/performance/route', zoomed(query, filter, range)))}>
                  Zoom in
                </button>
                <a class="button small" href={audit(range[0], range[1])}>
                  Its calls
                </a>
              </>
            )}
            {differs && kind !== 'all' && (
              <label class="select">
                <span class="offscreen">Beside</span>
                <select value={baseline || 'rest'} onChange={(e) => setQuery({ beside: e.currentTarget.value === 'rest' ? null : e.currentTarget.value })}>
                  <option value="rest">beside the rest</option>
                  <option value="before">beside the time before</option>
                </select>
              </label>
            )}
            {!differs && <span class="hint">or drag over a chart; by keyboard, Shift and the arrows on a chart, then Enter</span>}
          </div>
          {differs && (
            <DiffersPanel
              query={differs}
              onFilter={(condition) => change(addCondition(shown, condition))}
              onClose={() => setQuery({ from: null, to: null, differs: null, beside: null })}
            />
          )}
          {!series.data ? (
            <Skeleton rows={10} />
          ) : points.every((p) => p.count === 0 && p.interrupted === 0) ? (
            <Empty title="No calls in this window">Choose a longer one.</Empty>
          ) : (
            <RouteCharts
              series={series.data}
              figures={figures}
              pending={series.dataKey !== key}
              loading={series.loading}
              overlay={overlay}
              onOverlay={(on) => setQuery({ before: on ? '1' : null }, true)}
              region={range ? [seconds(range[0]), seconds(range[1])] : null}
              onSelect={choose}
              onPick={(at) => go(audit(toRFC3339(at * 1000), toRFC3339((at + step) * 1000)))}
            />
          )}
        </>
      )}
    </div>
  );
}

/** The page of the range alone. */
function zoomed(query: URLSearchParams, filter: Filter, [since, until]: readonly [string, string]): URLSearchParams {
  const next = withFilter(query, { ...filter, since, until });
  next.delete('from');
  next.delete('to');
  return next;
}

function Figures({ figures, changed }: { figures: (PerfFigures & { before?: PerfFigures | null }) | undefined; changed: Set<string> }) {
  const before = figures?.before && figures.before.count > 0 ? figures.before : null;
  const latency = (name: 'p50' | 'p95' | 'p99') =>
    figures && <Delta now={figures[`${name}_ms`]} before={before?.[`${name}_ms`]} real={changed.has(name)} bad="up" />;
  return (
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
      <FigureBox label="p50" value={formatMs(figures?.p50_ms ?? null)} delta={latency('p50')} />
      <FigureBox label="p95" value={formatMs(figures?.p95_ms ?? null)} delta={latency('p95')} />
      <FigureBox label="p99" value={formatMs(figures?.p99_ms ?? null)} delta={latency('p99')} />
      <FigureBox label="Max" value={formatMs(figures?.max_ms ?? null)} />
    </div>
  );
}

function FigureBox({ label, value, delta, note, bad }: { label: string; value: string; delta?: ComponentChildren; note?: string; bad?: boolean }) {
  return (
    <div class="figure">
      <span class="figure-label">{label}</span>
      <span class={`figure-value ${bad ? 'tone-bad' : ''}`}>{value}</span>
      {delta}
      {note && <span class="delta tone-cut">{note}</span>}
    </div>
  );
}
