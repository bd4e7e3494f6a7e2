import { useState } from 'preact/hooks';
import { plural } from '../lib/format';
import { usePoll } from '../lib/poll';
import { href } from '../lib/router';
import { fetchTenants } from '../lib/tenants';
import { formatDuration, parseTime, useNow, utcText } from '../lib/time';
import type { Operator, SupportSession } from '../lib/types';
import { Actor, Ago, Empty, Skeleton } from '../ui/bits';
import { Failure, StaleNotice } from '../ui/notice';
import { TableWrap } from '../ui/table-wrap';
import { EndSessionDialog } from './tenant-actions';

function Left({ until }: { until: string }) {
  const time = useNow(1);
  const left = (parseTime(until) ?? time) - time;
  return (
    <span title={utcText(until, 6)} class={left < 5 * 60_000 ? 'tone-warn' : ''}>
      {left > 0 ? formatDuration(Math.ceil(left / 1000) * 1000) : 'over'}
    </span>
  );
}

/** The sessions of one tenant, in its drawer. */
export function SessionList({ sessions, onEnd }: { sessions: SupportSession[]; onEnd: ((session: SupportSession) => void) | undefined }) {
  if (sessions.length === 0) return <p class="muted">No live session.</p>;
  return (
    <ul class="sessions">
      {sessions.map((s) => (
        <li key={s.id}>
          <div>
            <b>Live</b>, <Left until={s.ends_at} /> left
            <span class="sub-line">
              started <Ago time={s.started_at} /> by <Actor id={s.started_by} />
            </span>
          </div>
          {onEnd && (
            <button type="button" class="button small" onClick={() => onEnd(s)}>
              End
            </button>
          )}
        </li>
      ))}
    </ul>
  );
}

/** Every live support session. */
export function SupportPage({ me }: { me: Operator }) {
  const polled = usePoll('tenants', fetchTenants);
  const [ending, setEnding] = useState<SupportSession | null>(null);
  const tenants = polled.data?.tenants ?? [];
  const sessions = tenants.flatMap((t) => t.sessions ?? []).sort((a, b) => (a.ends_at < b.ends_at ? -1 : 1));
  const armed = tenants.filter((t) => t.armed);
  const canEnd = me.scopes.includes('remote_support');
  return (
    <div class="page">
      <header class="page-head">
        <h1>
          Live sessions{' '}
          {polled.data && (
            <span class="head-count">
              ({plural(sessions.length, 'session')} · {plural(armed.length, 'armed tenant')})
            </span>
          )}
        </h1>
      </header>
      <StaleNotice polled={polled} what="The list" />
      {polled.error && !polled.data ? (
        <Failure error={polled.error} scope="tenants:read" retry={polled.reload} />
      ) : !polled.data ? (
        <Skeleton rows={3} />
      ) : sessions.length === 0 ? (
        <Empty title="No support session is live">
          {armed.length === 0 ? (
            <>
              No tenant is armed. <a href={href('/tenants')}>Tenants</a>
            </>
          ) : (
            <>
              Armed:{' '}
              {armed.map((t, i) => (
                <>
                  {i > 0 && ', '}
                  <a key={t.id} class="mono" href={href('/tenants', { tenant: t.id })}>
                    {t.id}
                  </a>
                </>
              ))}
            </>
          )}
        </Empty>
      ) : (
        <TableWrap>
          <table class="list">
            <thead>
              <tr>
                <th scope="col">Tenant</th>
                <th scope="col">Started by</th>
                <th scope="col" class="num">
                  Started
                </th>
                <th scope="col" class="num">
                  Time left
                </th>
                {canEnd && (
                  <th scope="col" class="actions">
                    Action
                  </th>
                )}
              </tr>
            </thead>
            <tbody>
              {sessions.map((s) => (
                <tr key={s.id}>
                  <td>
                    <a class="cell-main mono" href={href('/tenants', { tenant: s.tenant_id })}>
                      {s.tenant_id}
                    </a>
                  </td>
                  <td>
                    <Actor id={s.started_by} />
                  </td>
                  <td class="num" data-label="Started">
                    <Ago time={s.started_at} />
                  </td>
                  <td class="num" data-label="Left">
                    <Left until={s.ends_at} />
                  </td>
                  {canEnd && (
                    <td class="actions">
                      <button type="button" class="button small" aria-label={`End the session with ${s.tenant_id}`} onClick={() => setEnding(s)}>
                        End
                      </button>
                    </td>
                  )}
                </tr>
              ))}
            </tbody>
          </table>
        </TableWrap>
      )}
      {ending && (
        <EndSessionDialog
          tenantId={ending.tenant_id}
          session={ending.id}
          onClose={() => setEnding(null)}
          onDone={() => {
            setEnding(null);
            polled.reload();
          }}
        />
      )}
    </div>
  );
}
