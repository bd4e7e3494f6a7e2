import { useEffect, useState } from 'preact/hooks';
import { type Condition, labelOf } from '../lib/filter';
import { formatCount, formatMs, formatPercent, plural } from '../lib/format';
import { call } from '../lib/http';
import { learnNames } from '../lib/names';
import { usePoll } from '../lib/poll';
import type { DifferFigures, Differs, DifferValue } from '../lib/types';
import { Skeleton, Spinner } from '../ui/bits';
import { Failure } from '../ui/notice';
import { windowLabel } from '../ui/window-picker';
import { conditionOf } from './condition';

/** How calls of a region went. */
export const KINDS: [string, string][] = [
  ['slow', 'Slow'],
  ['failed', 'Failed'],
  ['interrupted', 'Interrupted'],
];

const DEPARTS: Record<string, [string, string]> = {
  more: ['more often', 'tone-bad'],
  less: ['more rarely', 'muted'],
  slower: ['slower', 'tone-bad'],
  faster: ['faster', 'tone-ok'],
};

/** For whom the calls of a region differ: the values that depart most, with what they are beside the baseline's. */
export function DiffersPanel({ query, onFilter, onClose }: { query: URLSearchParams; onFilter: (condition: Condition) => void; onClose: () => void }) {
  const key = query.toString();
  const polled = usePoll<Differs>(key, (signal) => call<Differs>('/v1/perf/differs', { signal, query: new URLSearchParams(key) }), 60_000);
  const [all, setAll] = useState(false);
  const { data } = polled;
  useEffect(() => {
    for (const d of data?.dimensions ?? []) if (d.dimension === 'actor') learnNames(Object.fromEntries(d.values.map((v) => [v.value, v.name])));
  }, [data]);
  const shown = (data?.dimensions ?? []).map((d) => ({ ...d, values: d.values.filter((v) => all || v.departs !== null) })).filter((d) => d.values.length > 0);
  const chance = (data?.dimensions ?? []).reduce((n, d) => n + d.values.filter((v) => v.departs === null).length + d.other.values, 0);
  const empty = data && (data.calls.calls === 0 || data.calls.baseline_calls === 0);
  return (
    <section class={polled.dataKey === key ? 'differs' : 'differs pending'} aria-label="What differs" aria-busy={polled.dataKey !== key}>
      <h2>
        What differs
        {polled.loading && <Spinner />}
        <button type="button" class="button quiet small" onClick={onClose}>
          Close
        </button>
      </h2>
      {polled.error && !data ? (
        <Failure error={polled.error} scope="logs:read" retry={polled.reload} />
      ) : !data ? (
        <Skeleton rows={4} />
      ) : (
        <>
          <Beside data={data} />
          {empty ? (
            <p class="muted">There is nothing to compare. Choose another range, or the time before.</p>
          ) : (
            shown.length === 0 && <p class="muted">Nothing departs by more than chance.</p>
          )}
          <div class="differ-dimensions">
            {!empty &&
              shown.map((d) => (
                <div key={d.dimension} class="differ-dimension">
                  <h3>{labelOf(d.dimension)}</h3>
                  <ul>
                    {d.values.map((v) => (
                      <Value key={v.value} dimension={d.dimension} value={v} onFilter={onFilter} />
                    ))}
                  </ul>
                  {all && d.other.values > 0 && (
                    <p class="muted small-text">
                      {plural(d.other.values, 'more value')}: {formatPercent(d.other.share)}, elsewhere {formatPercent(d.other.baseline_share)}
                    </p>
                  )}
                </div>
              ))}
          </div>
          {!empty && chance > 0 && (
            <button type="button" class="button quiet small" aria-pressed={all} onClick={() => setAll(!all)}>
              {all ? 'Only what departs' : `Also the ${plural(chance, 'value')} within chance`}
            </button>
          )}
        </>
      )}
    </section>
  );
}

/** Which calls stand beside which. */
function Beside({ data }: { data: Differs }) {
  const { region, baseline, calls } = data;
  const kind = region.kind ? `${region.kind} ` : '';
  const bound = region.latency_min_ms !== null ? ` of ${formatMs(region.latency_min_ms)} or more` : '';
  return (
    <p class="differs-about">
      <span class="swatch differ-region" /> {formatCount(calls.calls)} {kind}
      {calls.calls === 1 ? 'call' : 'calls'}
      {bound}, {windowLabel(region.since, region.until)}, p99 {formatMs(calls.p99_ms)} <span class="swatch differ-baseline" />{' '}
      {baseline.kind === 'rest' ? `the other ${formatCount(calls.baseline_calls)} of the window` : `${plural(calls.baseline_calls, 'call')} of the time before`}
      , p99 {formatMs(calls.baseline_p99_ms)}
    </p>
  );
}

function Value({ dimension, value, onFilter }: { dimension: string; value: DifferValue; onFilter: (condition: Condition) => void }) {
  const condition = conditionOf(dimension, value.value);
  const shown = value.name ?? (value.value === '' ? '(none)' : value.value);
  const [word, tone] = DEPARTS[value.departs ?? ''] ?? ['within chance', 'muted'];
  return (
    <li class="differ-value">
      {condition ? (
        <button
          type="button"
          class="link differ-name"
          title={`Only ${value.value}`}
          aria-label={`Filter by ${labelOf(dimension)} ${shown}`}
          onClick={() => onFilter(condition)}
        >
          {shown}
        </button>
      ) : (
        <span class="differ-name muted">{shown}</span>
      )}
      <span class={`differ-departs ${tone}`}>{word}</span>
      <Bars figures={value} />
      <span class="differ-p99 num">
        <span class="muted">p99</span> {formatMs(value.p99_ms)} <span class="muted">· {formatMs(value.baseline_p99_ms)}</span>
      </span>
    </li>
  );
}

/** The share in the region above the share in the baseline. */
function Bars({ figures }: { figures: DifferFigures }) {
  const bar = (share: number, calls: number, kind: string, says: string) => (
    <span class="differ-bar" title={plural(calls, 'call')}>
      <svg class={kind} width="100%" height="8" aria-hidden="true">
        <rect class="differ-track" width="100%" height="8" rx="2" />
        <rect width={`${Math.max(share * 100, share > 0 ? 0.8 : 0)}%`} height="8" rx="2" />
      </svg>
      <span class="num">
        <span class="offscreen">{says} </span>
        {formatPercent(share)}
      </span>
    </span>
  );
  return (
    <span class="differ-bars">
      {bar(figures.share, figures.calls, 'differ-region', 'share in the region')}
      {bar(figures.baseline_share, figures.baseline_calls, 'differ-baseline', 'elsewhere')}
    </span>
  );
}
