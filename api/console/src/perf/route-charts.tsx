import { useMemo, useState } from 'preact/hooks';
import { formatCount, formatMs, formatPercent, formatRate, formatShort } from '../lib/format';
import { formatDuration, parseTime, timeOf } from '../lib/time';
import type { PerfFigures, PerfSeries, SeriesPoint } from '../lib/types';
import { Spinner } from '../ui/bits';
import { Plot, type PlotSeries } from '../ui/plot';

const QUANTILES: PlotSeries[] = [
  { label: 'max', colour: 'line-max', dash: [3, 3] },
  { label: 'p99', colour: 'line-p99' },
  { label: 'p95', colour: 'line-p95' },
  { label: 'p50', colour: 'line-p50' },
];
const RATE: PlotSeries[] = [{ label: 'calls a minute', colour: 'accent', fill: true }];
const ERRORS: PlotSeries[] = [
  { label: '4xx', colour: 'bar-warn' },
  { label: 'interrupted', colour: 'cut' },
  { label: '5xx', colour: 'bar-bad', fill: true },
];
const EARLIER: PlotSeries = { label: 'before', colour: 'line-max', dash: [6, 3] };

type Column = (number | null)[];

/** Interrupted calls among all of the point, in percent. */
function interrupted(p: SeriesPoint): number {
  return p.interrupted === 0 ? 0 : (p.interrupted / (p.count + p.interrupted)) * 100;
}

/** The points of the window before, each at the place that it would have in this one. */
function shifted(data: PerfSeries, at: Column, value: (p: SeriesPoint) => number | null): Column {
  const length = (parseTime(data.until)! - parseTime(data.since)!) / 1000;
  const out: Column = at.map(() => null);
  const first = at[0] ?? 0;
  for (const p of data.series[0]?.before ?? []) {
    const i = Math.round((parseTime(p.at)! / 1000 + length - first) / data.step_seconds);
    if (i >= 0 && i < out.length) out[i] = value(p);
  }
  return out;
}

/** Latency, rate and errors of a route, one below the other, with one cursor and one region. */
export function RouteCharts(props: {
  series: PerfSeries;
  figures: PerfFigures | undefined;
  pending: boolean;
  loading: boolean;
  /** the window before is drawn, too */
  overlay: boolean;
  onOverlay: (on: boolean) => void;
  region: [number, number] | null;
  onSelect: (from: number, to: number) => void;
  onPick: (at: number) => void;
}) {
  const { series: data, figures, overlay } = props;
  const [hover, setHover] = useState<number | null>(null);
  const [withMax, setWithMax] = useState(false);
  const points = data.series[0]?.points ?? [];
  const step = data.step_seconds;
  const columns = useMemo(() => {
    const [start, end] = [parseTime(data.since)!, parseTime(data.until)!];
    const at = points.map((p) => parseTime(p.at)! / 1000);
    const some = (value: (p: SeriesPoint) => number | null): Column => points.map((p) => (p.count > 0 ? value(p) : null));
    const earlier = (value: (p: SeriesPoint) => number | null): Column[] => (overlay ? [shifted(data, at, value)] : []);
    return {
      quantiles: [
        at,
        ...earlier((p) => (p.count > 0 ? p.p99_ms : null)),
        withMax ? some((p) => p.max_ms) : at.map(() => null),
        some((p) => p.p99_ms),
        some((p) => p.p95_ms),
        some((p) => p.p50_ms),
      ],
      // A bucket that the window cuts would look like a drop.
      rate: [at, ...earlier((p) => p.rpm), points.map((p, i) => ((at[i]! + step) * 1000 > end || at[i]! * 1000 < start ? null : p.rpm))],
      errors: [
        at,
        ...earlier((p) => (p.count > 0 ? p.error_rate * 100 : null)),
        some((p) => p.client_error_rate * 100),
        points.map((p) => (p.count + p.interrupted > 0 ? interrupted(p) : null)),
        some((p) => p.error_rate * 100),
      ],
    };
  }, [data, withMax, overlay]);

  const at = columns.rate[0] as number[];
  const lines = (own: PlotSeries[], what: string): PlotSeries[] => (overlay ? [{ ...EARLIER, label: `${what} before` }, ...own] : own);
  const read = (p: SeriesPoint) =>
    `${formatCount(p.count)} calls · p50 ${formatMs(p.p50_ms)} · p95 ${formatMs(p.p95_ms)} · p99 ${formatMs(p.p99_ms)} · max ${formatMs(p.max_ms)} · 5xx ${formatPercent(p.error_rate)} · 4xx ${formatPercent(p.client_error_rate)}${p.interrupted > 0 ? ` · ${formatCount(p.interrupted)} interrupted` : ''}`;
  const point = hover === null ? undefined : points[hover];
  const line = data.series[0];
  const started = line?.started_at ? parseTime(line.started_at)! / 1000 : null;
  const chart = {
    from: Math.min(parseTime(data.since)! / 1000, at[0] ?? Infinity),
    to: Math.max(parseTime(data.until)! / 1000, (at[points.length - 1] ?? 0) + step),
    sync: 'route',
    region: props.region,
    marks: started === null ? [] : [{ at: started, label: line!.started_by === 'errors' ? 'errors began' : 'slower' }],
    say: (i: number) => `${timeOf(at[i]! * 1000)}, ${read(points[i]!)}`,
    onCursor: setHover,
    onPick: (i: number) => props.onPick(at[i]!),
    onSelect: props.onSelect,
  };
  const earlierKey = overlay && (
    <>
      <span class="swatch line-before" /> before
    </>
  );
  return (
    <div class={props.pending ? 'charts pending' : 'charts'}>
      <p class="chart-read mono" aria-hidden="true">
        {point ? (
          <span>
            <b>{timeOf(parseTime(point.at)!)}</b> + {formatDuration(step * 1000)} · {read(point)}
          </span>
        ) : (
          <span class="faint">Points of {formatDuration(step * 1000)} each · press one for the calls behind it</span>
        )}
        {props.loading && <Spinner />}
      </p>
      <section class="chart" aria-label="Latency">
        <h2>
          Latency
          <span class="legend">
            <span class="swatch line-p50" /> p50 <span class="swatch line-p95" /> p95 <span class="swatch line-p99" /> p99
            <label class="check">
              <input type="checkbox" checked={withMax} onChange={(e) => setWithMax(e.currentTarget.checked)} /> max
            </label>
            <label class="check">
              <input type="checkbox" checked={overlay} onChange={(e) => props.onOverlay(e.currentTarget.checked)} />
              {overlay && <span class="swatch line-before" />} the time before
            </label>
          </span>
        </h2>
        <Plot
          {...chart}
          label={`Latency over time: p50 ${formatMs(figures?.p50_ms ?? null)}, p95 ${formatMs(figures?.p95_ms ?? null)}, p99 ${formatMs(figures?.p99_ms ?? null)} over the window`}
          height={220}
          data={columns.quantiles}
          series={lines(QUANTILES, 'p99')}
          format={formatMs}
        />
      </section>
      <section class="chart" aria-label="Rate">
        <h2>
          Calls a minute
          <span class="legend">{earlierKey}</span>
        </h2>
        <Plot
          {...chart}
          label={`Calls a minute over time, ${formatRate(figures?.rpm ?? 0)} on average`}
          height={130}
          data={columns.rate}
          series={lines(RATE, 'calls')}
          format={formatShort}
          floor={1}
        />
      </section>
      <section class="chart" aria-label="Errors">
        <h2>
          Errors
          <span class="legend">
            <span class="swatch bar-warn" /> 4xx <span class="swatch bar-bad" /> 5xx <span class="swatch bar-cut" /> interrupted {earlierKey}
          </span>
        </h2>
        <Plot
          {...chart}
          label={`Share of errors over time: ${formatPercent(figures?.error_rate ?? 0)} server errors, ${formatPercent(figures?.client_error_rate ?? 0)} client errors, ${formatCount(figures?.interrupted ?? 0)} interrupted`}
          height={130}
          data={columns.errors}
          series={lines(ERRORS, '5xx')}
          format={(v) => `${v < 10 && v > 0 ? v.toFixed(1) : v.toFixed(0)} %`}
          floor={1}
        />
      </section>
    </div>
  );
}
