import { Fragment } from 'preact';
import { useState } from 'preact/hooks';
import { call } from '../lib/http';
import { useKeys } from '../lib/keys';
import { learnNames } from '../lib/names';
import { usePoll } from '../lib/poll';
import { href, setQuery, usePlace } from '../lib/router';
import type { AccessReview, AccessSubject, Operator } from '../lib/types';
import { Actor, Ago, Empty, Skeleton } from '../ui/bits';
import { Failure, StaleNotice } from '../ui/notice';
import { TableWrap } from '../ui/table-wrap';

const PAGE = 200;
/** A review reads the whole window of the log, so it is not asked for every few seconds. */
const AGAIN = 600_000;

const SINCE: [string, string][] = [
  ['30d', '30 days'],
  ['90d', '90 days'],
  ['180d', '180 days'],
  ['365d', 'a year'],
];

const KINDS: [AccessSubject['kind'], string, string][] = [
  ['person', 'People', 'Person'],
  ['impersonation', 'Impersonations', 'Impersonation'],
  ['token', 'Tokens', 'Token'],
  ['workload', 'Workloads', 'Workload'],
  ['break_glass', 'Break-glass', 'Break-glass'],
];

async function fetchReview(query: Record<string, string>, pages: number, signal: AbortSignal): Promise<AccessReview> {
  let review: AccessReview | null = null;
  for (let page = 0; page < pages; page++) {
    const cursor: string | null = review ? (review as AccessReview).next_cursor : null;
    const more: AccessReview = await call<AccessReview>('/v1/access-review', {
      signal,
      query: { ...query, limit: String(PAGE), ...(cursor ? { cursor } : {}) },
    });
    learnNames(more.actors);
    const before: AccessSubject[] = review ? (review as AccessReview).subjects : [];
    review = { ...more, subjects: [...before, ...more.subjects] };
    if (!more.next_cursor) break;
  }
  return review!;
}

/** Who has which rights and who used them: #/settings/access?since=90d&kind=token&unused=1 */
export function AccessPage({ me }: { me: Operator }) {
  const { query } = usePlace();
  const since = query.get('since') ?? '90d';
  const kind = query.get('kind') ?? '';
  const unused = query.get('unused') === '1';
  const asked = { since, ...(kind && { kind }) };
  const what = JSON.stringify(asked);
  const [more, setMore] = useState({ what, pages: 1 });
  const pages = more.what === what ? more.pages : 1;
  const polled = usePoll(`access ${what} ${pages}`, (signal) => fetchReview(asked, pages, signal), AGAIN);
  useKeys({ r: polled.reload });
  const fresh = polled.dataKey.startsWith(`access ${what} `);
  const all = (fresh && polled.data?.subjects) || [];
  const subjects = unused ? all.filter((s) => s.unused && s.unused.length > 0) : all;
  const next = fresh ? (polled.data?.next_cursor ?? null) : null;
  const choices = SINCE.some(([v]) => v === since) ? SINCE : [...SINCE, [since, since] as [string, string]];

  return (
    <div class="page">
      <header class="page-head">
        <h1>
          Access review{' '}
          {fresh && (
            <span class="head-count">
              ({subjects.length}
              {next && '+'})
            </span>
          )}
        </h1>
        <div class="page-tools">
          <select aria-label="Since" value={since} onChange={(e) => setQuery({ since: e.currentTarget.value })}>
            {choices.map(([value, label]) => (
              <option key={value} value={value}>
                Used in {label}
              </option>
            ))}
          </select>
          <select aria-label="Kind" value={kind} onChange={(e) => setQuery({ kind: e.currentTarget.value || null })}>
            <option value="">Everybody and everything</option>
            {KINDS.map(([value, label]) => (
              <option key={value} value={value}>
                {label}
              </option>
            ))}
          </select>
          <label class="check">
            <input type="checkbox" checked={unused} onChange={(e) => setQuery({ unused: e.currentTarget.checked ? '1' : null })} /> Unused rights only
          </label>
        </div>
      </header>
      <p class="hint">
        Rights granted, and rights used since then, from the record itself. A marked scope was not used: it could be taken away. As a file:{' '}
        <code>argusctl access review --csv</code>
      </p>
      <StaleNotice polled={polled} what="The review" />
      {polled.error && !fresh ? (
        <Failure error={polled.error} scope="tokens:admin" retry={polled.reload} />
      ) : !fresh ? (
        <Skeleton rows={6} />
      ) : subjects.length === 0 ? (
        <Empty title="Nothing to review">{unused ? 'Every right was used.' : 'None matches what is chosen above.'}</Empty>
      ) : (
        <TableWrap>
          <table class="list access">
            <thead>
              <tr>
                <th scope="col">Who</th>
                <th scope="col">Rights</th>
                <th scope="col" class="num">
                  Calls
                </th>
                <th scope="col" class="num">
                  Last used
                </th>
                <th scope="col">From</th>
                <th scope="col" class="actions">
                  Action
                </th>
              </tr>
            </thead>
            <tbody>
              {subjects.map((s) => (
                <Subject key={`${s.kind} ${s.id} ${s.impersonator_id}`} s={s} since={since} me={me} />
              ))}
            </tbody>
          </table>
        </TableWrap>
      )}
      {next && (
        <p>
          <button type="button" class="button" disabled={polled.loading} onClick={() => setMore({ what, pages: pages + 1 })}>
            Show more
          </button>
        </p>
      )}
    </div>
  );
}

function Subject({ s, since, me }: { s: AccessSubject; since: string; me: Operator }) {
  const label = KINDS.find(([kind]) => kind === s.kind)![2];
  const held = new Set(s.granted ?? []);
  const beyond = s.used.filter((u) => u.calls > u.denied && !held.has(u.scope));
  const calls = new URLSearchParams({ since });
  if (s.kind === 'token') calls.set('pat', s.id);
  else if (s.kind === 'break_glass') calls.set('break_glass', s.id);
  else {
    calls.set('actor', s.actor_id);
    for (const kind of ['pat', 'break_glass']) calls.append('not_actor_kind', kind);
  }
  return (
    <tr class={s.state === 'live' ? '' : 'over'}>
      <td>
        <span class="cell-main">
          {s.kind === 'token' || s.kind === 'break_glass' ? s.name || s.id : s.impersonator_id ? <Actor id={s.impersonator_id} /> : <Actor id={s.actor_id} />}
        </span>{' '}
        <span class="tag">{label}</span>
        {s.state !== 'live' && s.state !== 'unknown' && <span class="tag tone-bad">{s.state === 'gone' ? 'may not sign in' : s.state}</span>}
        {s.agent && <span class="tag">agent {s.agent}</span>}
        {s.kind !== 'person' && s.kind !== 'workload' && (
          <span class="sub-line">
            {s.impersonator_id ? 'as ' : 'of '}
            <Actor id={s.actor_id} />
          </span>
        )}
      </td>
      <td>
        {s.granted === null ? (
          <span class="muted">not known</span>
        ) : s.granted.length === 0 ? (
          <span class="muted">none</span>
        ) : (
          <span class="scopes mono">
            {s.granted.map((scope) => (
              <Fragment key={scope}>
                <span class={s.unused?.includes(scope) ? 'scope-unused' : ''} title={s.unused?.includes(scope) ? 'Not used' : undefined}>
                  {scope}
                </span>{' '}
              </Fragment>
            ))}
          </span>
        )}
        {beyond.length > 0 && (
          <span class="sub-line">
            used, and not held now: <span class="mono">{beyond.map((u) => u.scope).join(' ')}</span>
          </span>
        )}
        {s.denied > 0 && <span class="sub-line tone-bad">{s.denied.toLocaleString('en')} denied</span>}
      </td>
      <td class="num" data-label="Calls">
        {s.calls.toLocaleString('en')}
      </td>
      <td class="num" data-label="Used">
        <Ago time={s.last_used_at} />
      </td>
      <td data-label="From">
        <span class="mono">
          {s.addresses
            .slice(0, 3)
            .map((a) => a.value)
            .join(' ') || '–'}
          {(s.addresses.length > 3 || s.more_addresses) && ' …'}
        </span>
        {s.agents.length > 0 && !s.agent && <span class="sub-line">by {s.agents.map((a) => a.value).join(', ')}</span>}
      </td>
      <td class="actions">
        {me.scopes.includes('logs:read') && s.calls > 0 && (
          <a class="button small" aria-label={`Its calls: ${s.name || s.id}`} href={href('/settings/audit', calls)}>
            Calls
          </a>
        )}
        {(s.kind === 'person' || s.kind === 'token') && (
          <a class="button small" aria-label={`Tokens of ${s.actor_id}`} href={href('/settings/tokens', { owner: s.actor_id })}>
            Tokens
          </a>
        )}
      </td>
    </tr>
  );
}
