import { useMemo, useState } from 'preact/hooks';
import { FilterBar } from '../audit/filter-bar';
import { filterOf, withFilter } from '../lib/filter';
import { formatCount, formatMs, formatPercent, formatRate, plural, splitRoute } from '../lib/format';
import { call } from '../lib/http';
import { useKeys } from '../lib/keys';
import { useNames } from '../lib/names';
import { usePoll } from '../lib/poll';
import { countedCalls, go, href, setQuery, usePlace } from '../lib/router';
import { momentMs, now, parseTime, timeOf } from '../lib/time';
import type { GroupBy, Operator, Perf, PerfFigures, PerfLine, PerfRow, PerfSeries } from '../lib/types';
import { regressionOf } from '../perf/regression';
import { Empty, Skeleton, SortHead, Spinner } from '../ui/bits';
import { Delta } from '../ui/delta';
import { Failure, SourceNotice, StaleNotice } from '../ui/notice';
import { Sparkline } from '../ui/plot';
import { TableWrap } from '../ui/table-wrap';
import { WindowPicker, windowLabel } from '../ui/window-picker';

export const PERF_WINDOW = '1h';

const GROUPS: [GroupBy, string][] = [
  ['route', 'Route'],
  ['service', 'Service'],
  ['release', 'Release'],
  ['actor', 'Actor'],
  ['tenant', 'Tenant'],
  ['method', 'Method'],
  ['actor_kind', 'Credential'],
  ['client', 'Client'],
  ['status_class', 'Status class'],
];

/** The name of a row's group. */
export function groupOf(row: PerfRow, by: GroupBy): string {
  return String(row[by] ?? '');
}

const FIGURES: Record<string, (row: PerfRow) => number | string | null> = {
  count: (r) => r.count,
  rpm: (r) => r.rpm,
  error_rate: (r) => r.error_rate,
  client_error_rate: (r) => r.client_error_rate,
  p50: (r) => r.p50_ms,
  p95: (r) => r.p95_ms,
  p99: (r) => r.p99_ms,
  max: (r) => r.max_ms,
  regression: (r) => regressionOf(r)?.factor ?? 0,
};

/** The clock of a moment, with its date when that is another than the window's end has. */
function clockOf(at: string, until: string): string {
  const full = timeOf(parseTime(at)!);
  return full.slice(0, 10) === until.slice(0, 10) ? full.slice(11, 16) : full.slice(0, 16).replaceAll('-', '\u2011'); // a date is one word
}

/** About thirty points for a sparkline, in whole minutes. */
function sparkStep(sinceMs: number, untilMs: number): string {
  const minutes = Math.max(1, Math.ceil((untilMs - sinceMs) / 60_000 / 30));
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 4320, 10_080, 20_160];
  return `${steps.find((s) => s >= minutes) ?? 20_160}m`;
}

export function PerformancePage({ me }: { me: Operator }) {
  const { query } = usePlace();
  const filter = useMemo(() => filterOf(query), [query]);
  const since = filter.since || PERF_WINDOW;
  const by = (GROUPS.find(([g]) => g === query.get('by'))?.[0] ?? 'route') as GroupBy;
  const sort = { by: query.get('sort') ?? 'count', down: query.get('dir') !== 'asc' };
  const [text, setText] = useState('');

  const params = withFilter(new URLSearchParams(), { ...filter, since });
  params.set('group_by', by);
  const key = params.toString();
  const perf = usePoll<Perf>(key, (signal) => call<Perf>('/v1/perf', { signal, query: new URLSearchParams(`${key}&compare=true`) }));
  const series = usePoll<Map<string, PerfLine>>(key, async (signal) => {
    const from = momentMs(since, now()) ?? 0;
    const to = filter.until ? (momentMs(filter.until, now()) ?? 0) : now();
    const found = await call<PerfSeries>('/v1/perf/series', { signal, query: new URLSearchParams(`${key}&compare=true&step=${sparkStep(from, to)}`) });
    return new Map(found.series.map((s) => [s.group, s]));
  });
  useKeys({ r: perf.reload, '/': () => document.getElementById('search')?.focus() });

  const data = perf.data;
  const current = perf.dataKey === key;
  const rows = useMemo(() => {
    const low = text.toLowerCase();
    const shownBy = data?.group_by ?? by;
    const value = FIGURES[sort.by] ?? ((r: PerfRow) => groupOf(r, shownBy));
    return (data?.rows ?? [])
      .filter((r) => groupOf(r, shownBy).toLowerCase().includes(low))
      .sort((a, b) => {
        const x = value(a) ?? -1;
        const y = value(b) ?? -1;
        const c = x < y ? -1 : x > y ? 1 : groupOf(a, shownBy) < groupOf(b, shownBy) ? 1 : -1;
        return sort.down ? -c : c;
      });
  }, [data, text, sort.by, sort.down]);

  const shownBy = data?.group_by ?? by;
  const onSort = (name: string, down: boolean) => setQuery({ sort: name, dir: down ? null : 'asc' }, true);
  const setWindow = (s: string, u: string) => go(href('/performance', withFilter(query, { ...filter, since: s, until: u })));
  const targetOf = (group: string): string => {
    const keep = withFilter(new URLSearchParams(), { ...filter, since });
    if (shownBy === 'route') {
      keep.delete('route');
      keep.append('route', group);
      return href('/performance/route', keep);
    }
    if (shownBy === 'release') {
      // As argus.ReleaseGroup writes it.
      const [service = '', ...release] = group.split(' ');
      keep.delete('service');
      keep.delete('release');
      keep.append('service', service);
      if (release.length > 0) keep.append('release', release.join(' '));
      return countedCalls(keep);
    }
    // No filter asks for calls without a tenant.
    if (shownBy === 'tenant' && group === '') return countedCalls(keep);
    // Values of one name are alternatives: the row is one of those that the filter has.
    const name = shownBy === 'status_class' ? 'status' : shownBy;
    keep.delete(name);
    keep.append(name, group);
    return countedCalls(keep);
  };
  const total = (data?.rows ?? []).reduce((n, r) => n + r.count, 0);
  const interrupted = (data?.rows ?? []).reduce((n, r) => n + r.interrupted, 0);

  return (
    <div class="page">
      <header class="page-head">
        <h1>Performance</h1>
        <div class="page-tools">
          <input
            id="perf-filter"
            type="search"
            class="filter-input"
            aria-label="Filter the rows"
            placeholder="Find in the table"
            value={text}
            onInput={(e) => setText(e.currentTarget.value)}
          />
          <label class="select">
            <span class="offscreen">Group by</span>
            <select value={by} onChange={(e) => setQuery({ by: e.currentTarget.value === 'route' ? null : e.currentTarget.value })}>
              {GROUPS.map(([g, label]) => (
                <option key={g} value={g}>
                  by {label.toLowerCase()}
                </option>
              ))}
            </select>
          </label>
          <WindowPicker since={since} until={filter.until} onChange={setWindow} />
        </div>
      </header>
      <FilterBar
        filter={filter}
        since={since}
        me={me}
        placeholder={'actor:… tenant:… route:"GET /v1/tenants/:id" -client:argusctl'}
        onChange={(f) => go(href('/performance', withFilter(query, f)))}
      />
      <SourceNotice answer={data} />
      <StaleNotice polled={perf} what="The figures" />
      {perf.error && !data ? (
        <Failure error={perf.error} scope="logs:read" retry={perf.reload} />
      ) : !data ? (
        <Skeleton rows={10} />
      ) : (
        <>
          <div class="results-bar">
            <p class="results-count">
              <b>{plural(total, 'call')}</b>
              <span class="muted">
                {' '}
                · {windowLabel(data.since, data.until)} · changes against the window before
                {interrupted > 0 && <> · {formatCount(interrupted)} interrupted, not counted</>}
              </span>
            </p>
            {perf.loading && <Spinner />}
          </div>
          <TableWrap pending={!current}>
            <table class="list perf">
              <thead>
                <tr>
                  <SortHead label={GROUPS.find(([g]) => g === shownBy)![1]} name="group" sort={sort} onSort={onSort} />
                  <th scope="col" class="c-spark" title="Calls, and their p95 as a line">
                    Trend
                  </th>
                  <SortHead label="Calls" name="count" sort={sort} onSort={onSort} numeric />
                  <SortHead label="RPM" name="rpm" sort={sort} onSort={onSort} numeric spare hint="Completed calls a minute" />
                  <SortHead label="Errors" name="error_rate" sort={sort} onSort={onSort} numeric hint="Share of 5xx answers" />
                  <SortHead label="4xx" name="client_error_rate" sort={sort} onSort={onSort} numeric spare hint="Share of 4xx answers" />
                  <SortHead label="p50" name="p50" sort={sort} onSort={onSort} numeric spare />
                  <SortHead label="p95" name="p95" sort={sort} onSort={onSort} numeric spare />
                  <SortHead label="p99" name="p99" sort={sort} onSort={onSort} numeric />
                  <SortHead label="Max" name="max" sort={sort} onSort={onSort} numeric spare />
                  <SortHead label="Regression" name="regression" sort={sort} onSort={onSort} numeric hint="What grew most beyond noise, and since when" />
                </tr>
              </thead>
              <tbody>
                {rows.map((r) => (
                  <Figures
                    key={groupOf(r, shownBy)}
                    row={r}
                    by={shownBy}
                    target={targetOf(groupOf(r, shownBy))}
                    line={series.dataKey === key ? series.data?.get(groupOf(r, shownBy)) : undefined}
                    until={data.until}
                  />
                ))}
              </tbody>
            </table>
            {rows.length === 0 && <Empty title={text ? 'Nothing fits the filter' : 'No calls in this window'} />}
          </TableWrap>
        </>
      )}
    </div>
  );
}

function Figures({ row, by, target, line, until }: { row: PerfRow; by: GroupBy; target: string; line: PerfLine | undefined; until: string }) {
  const group = groupOf(row, by);
  const names = useNames();
  const { method, path } = by === 'route' ? splitRoute(group) : { method: '', path: group };
  const before: PerfFigures | null = row.before && row.before.count > 0 ? row.before : null;
  const changed = new Set(row.changed ?? []);
  const regression = regressionOf(row);
  const started = regression && line?.started_at ? line.started_at : null;
  const spark = line && (
    <Sparkline
      calls={line.points.map((p) => p.count)}
      values={line.points.map((p) => p.p95_ms)}
      start={started === null ? null : line.points.findLastIndex((p) => p.at <= started)}
      label={`Calls and p95 over time of ${group}`}
    />
  );
  return (
    <tr
      onClick={(e) => {
        if (!(e.target as HTMLElement).closest('a') && !getSelection()?.toString()) go(target);
      }}
    >
      <td class="c-group">
        <a class="cell-main" href={target} title={group}>
          {method && <span class={`method m-${method.toLowerCase()}`}>{method} </span>}
          {(by === 'actor' && names.get(group)) || path || '(none)'}
        </a>
      </td>
      <td class="c-spark">{spark}</td>
      <td class="num">
        {formatCount(row.count)}
        {row.interrupted > 0 && <span class="sub-line tone-cut">{formatCount(row.interrupted)} interrupted</span>}
      </td>
      <td class="num spare">
        {formatRate(row.rpm)}
        <Delta now={row.rpm} before={before?.rpm} real={changed.has('rpm')} />
      </td>
      <td class={`num ${row.error_rate > 0 ? 'tone-bad' : ''}`}>
        {formatPercent(row.error_rate)}
        <Delta now={row.error_rate} before={before?.error_rate} real={changed.has('error_rate')} bad="up" points />
      </td>
      <td class={`num spare ${row.client_error_rate > 0 ? '' : 'muted'}`}>{formatPercent(row.client_error_rate)}</td>
      <td class="num spare">
        {formatMs(row.p50_ms)}
        <Delta now={row.p50_ms} before={before?.p50_ms} real={changed.has('p50')} bad="up" />
      </td>
      <td class="num spare">
        {formatMs(row.p95_ms)}
        <Delta now={row.p95_ms} before={before?.p95_ms} real={changed.has('p95')} bad="up" />
      </td>
      <td class="num">
        {formatMs(row.p99_ms)}
        <Delta now={row.p99_ms} before={before?.p99_ms} real={changed.has('p99')} bad="up" />
      </td>
      <td class="num spare muted">{formatMs(row.max_ms)}</td>
      <td class="num c-regression">
        {regression ? <span class="tone-bad">{regression.text}</span> : <span class="muted">–</span>}
        {regression && started && (
          <span class="sub-line">
            {by === 'route' ? (
              <a href={`${target}&from=${started}&to=${until}`} title="For whom: what differs since then">
                since {clockOf(started, until)}
              </a>
            ) : (
              <>since {clockOf(started, until)}</>
            )}
          </span>
        )}
      </td>
    </tr>
  );
}
