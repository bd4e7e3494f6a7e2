import { useMemo, useState } from 'preact/hooks';
import { activeTenant, setActiveTenant } from '../lib/active-tenant';
import { plural } from '../lib/format';
import { useKeys } from '../lib/keys';
import { usePoll } from '../lib/poll';
import { href, setQuery, usePlace } from '../lib/router';
import { useStore } from '../lib/store';
import { fetchTenants } from '../lib/tenants';
import { parseTime } from '../lib/time';
import type { Operator, Tenant } from '../lib/types';
import { Actor, Ago, Copyable, Empty, Skeleton, SortHead, When } from '../ui/bits';
import { Drawer } from '../ui/drawer';
import * as icons from '../ui/icons';
import { Failure, StaleNotice } from '../ui/notice';
import { TableWrap } from '../ui/table-wrap';
import { SessionList } from './support';
import { ArmDialog, DisarmDialog, EndSessionDialog, StartSessionDialog } from './tenant-actions';
import { ConsentDialog, RetireDialog, TenantDialog } from './tenant-keep';

export type TenantAction =
  | { kind: 'add' }
  | { kind: 'arm' | 'disarm' | 'start' | 'change' | 'consent' | 'retire'; tenant: Tenant }
  | { kind: 'end'; tenant: Tenant; session: string };

export function TenantsPage({ me }: { me: Operator }) {
  const { query } = usePlace();
  const retired = query.get('retired') === '1';
  const polled = usePoll(retired ? 'all' : 'tenants', (signal) => fetchTenants(signal, retired));
  const [action, setAction] = useState<TenantAction | null>(null);
  const [text, setText] = useState('');
  const [sort, setSort] = useState({ by: 'id', down: false });
  const active = useStore(activeTenant);
  const openId = query.get('tenant');
  const tenants = polled.data?.tenants ?? [];
  const armed = tenants.filter((t) => t.armed).length;

  const shown = useMemo(() => {
    const low = text.toLowerCase();
    const value: Record<string, (t: Tenant) => string | number> = {
      id: (t) => t.id,
      support: (t) => (t.armed ? 0 : 1) - (t.sessions?.length ?? 0) * 2,
      agents: (t) => t.agents,
      activity: (t) => (t.last_activity ? (parseTime(t.last_activity) ?? 0) : 0),
    };
    const of = value[sort.by]!;
    return tenants
      .filter((t) => t.id.toLowerCase().includes(low) || t.name.toLowerCase().includes(low))
      .sort((a, b) => {
        if ((a.id === active) !== (b.id === active)) return a.id === active ? -1 : 1;
        const x = of(a);
        const y = of(b);
        const c = x < y ? -1 : x > y ? 1 : a.id < b.id ? -1 : 1;
        return sort.down ? -c : c;
      });
  }, [tenants, text, sort, active]);

  useKeys({ '/': () => document.getElementById('tenant-filter')?.focus(), r: polled.reload });
  const canArm = me.scopes.includes('remote_support:arm');
  const canSupport = me.scopes.includes('remote_support');
  const canKeep = me.scopes.includes('tenants:write');
  const onSort = (by: string, down: boolean) => setSort({ by, down });
  const open = openId ? tenants.find((t) => t.id === openId) : undefined;
  const done = (tenant?: Tenant) => {
    setAction(null);
    if (tenant && polled.data) polled.put({ ...polled.data, tenants: tenants.map((t) => (t.id === tenant.id ? tenant : t)) });
    polled.reload();
  };

  return (
    <div class={openId ? 'page with-drawer' : 'page'}>
      <header class="page-head">
        <h1>
          Tenants{' '}
          {polled.data && (
            <span class="head-count">
              ({tenants.length} · {armed} armed)
            </span>
          )}
        </h1>
        <div class="page-tools">
          <input
            id="tenant-filter"
            type="search"
            class="filter-input"
            aria-label="Filter tenants"
            placeholder="Filter"
            value={text}
            onInput={(e) => setText(e.currentTarget.value)}
          />
          <label class="check">
            <input type="checkbox" checked={retired} onChange={(e) => setQuery({ retired: e.currentTarget.checked ? '1' : null }, true)} /> Retired too
          </label>
          {canKeep && (
            <button type="button" class="button primary" onClick={() => setAction({ kind: 'add' })}>
              <icons.Plus /> Add
            </button>
          )}
        </div>
      </header>
      <StaleNotice polled={polled} what="The list" />
      {polled.error && !polled.data ? (
        <Failure error={polled.error} scope="tenants:read" retry={polled.reload} />
      ) : !polled.data ? (
        <Skeleton rows={6} />
      ) : tenants.length === 0 ? (
        <Empty title="No tenants yet">{canKeep ? 'Add one to see it here.' : 'A tenant appears here when it is added to ARGUS.'}</Empty>
      ) : (
        <TableWrap>
          <table class="list open-rows">
            <thead>
              <tr>
                <SortHead label="Tenant" name="id" sort={sort} onSort={onSort} />
                <SortHead label="Remote support" name="support" sort={sort} onSort={onSort} />
                <SortHead label="Agents" name="agents" sort={sort} onSort={onSort} numeric />
                <SortHead label="Last activity" name="activity" sort={sort} onSort={onSort} numeric />
                {(canArm || canSupport) && (
                  <th scope="col" class="actions">
                    Action
                  </th>
                )}
              </tr>
            </thead>
            <tbody>
              {shown.map((t) => (
                <tr
                  key={t.id}
                  class={t.id === openId ? 'open' : ''}
                  onClick={(e) => {
                    if (!(e.target as HTMLElement).closest('button, a')) setQuery({ tenant: t.id }, openId !== null);
                  }}
                >
                  <td>
                    <a class="cell-main" href={href('/tenants', { ...(retired && { retired: '1' }), tenant: t.id })}>
                      <span class="mono">{t.id}</span>
                      {t.id === active && <span class="tag">active</span>}
                    </a>
                    <span class="sub-line">{t.name}</span>
                  </td>
                  <td>
                    <SupportState tenant={t} />
                  </td>
                  <td class="num" data-label="Agents">
                    {t.agents}
                  </td>
                  <td class="num" data-label="Active">
                    <Ago time={t.last_activity} />
                  </td>
                  {(canArm || canSupport) && (
                    <td class="actions">
                      <TenantButtons tenant={t} canArm={canArm} canSupport={canSupport} onAction={setAction} />
                    </td>
                  )}
                </tr>
              ))}
            </tbody>
          </table>
          {shown.length === 0 && <Empty title="No tenant fits the filter" />}
        </TableWrap>
      )}

      {openId && (
        <Drawer label="Tenant" focusKey={openId} onClose={() => setQuery({ tenant: null })} head={<span class="mono">{openId}</span>}>
          {open ? (
            <TenantDetails
              tenant={open}
              canArm={canArm}
              canSupport={canSupport}
              canKeep={canKeep}
              canRead={me.scopes.includes('logs:read')}
              active={open.id === active}
              onAction={setAction}
            />
          ) : polled.data ? (
            <Empty title="There is no such tenant" />
          ) : (
            <Skeleton />
          )}
        </Drawer>
      )}
      {action?.kind === 'add' && <TenantDialog onClose={() => setAction(null)} onDone={() => done()} />}
      {action?.kind === 'change' && <TenantDialog tenant={action.tenant} onClose={() => setAction(null)} onDone={done} />}
      {action?.kind === 'consent' && <ConsentDialog tenant={action.tenant} onClose={() => setAction(null)} onDone={done} />}
      {action?.kind === 'retire' && <RetireDialog tenant={action.tenant} onClose={() => setAction(null)} onDone={() => done()} />}
      {action?.kind === 'arm' && <ArmDialog tenant={action.tenant} onClose={() => setAction(null)} onDone={done} />}
      {action?.kind === 'disarm' && <DisarmDialog tenant={action.tenant} onClose={() => setAction(null)} onDone={done} />}
      {action?.kind === 'start' && <StartSessionDialog tenant={action.tenant} onClose={() => setAction(null)} onDone={() => done()} />}
      {action?.kind === 'end' && (
        <EndSessionDialog tenantId={action.tenant.id} session={action.session} onClose={() => setAction(null)} onDone={() => done()} />
      )}
    </div>
  );
}

function SupportState({ tenant }: { tenant: Tenant }) {
  const live = tenant.sessions?.length ?? 0;
  return (
    <>
      <span class={`pill-state ${tenant.armed ? 'tone-warn' : 'tone-plain'}`}>{tenant.armed ? 'Armed' : tenant.retired ? 'Retired' : 'Disarmed'}</span>
      {live > 0 && <span class="pill-state tone-bad">{plural(live, 'live session')}</span>}
      {!tenant.armed && !tenant.retired && !tenant.consent.given && <span class="sub-line">no consent on record</span>}
      {tenant.armed && tenant.armed_at && (
        <span class="sub-line">
          <Ago time={tenant.armed_at} />
          {tenant.armed_by && (
            <>
              {' '}
              by <Actor id={tenant.armed_by} />
            </>
          )}
        </span>
      )}
    </>
  );
}

function TenantButtons({
  tenant,
  canArm,
  canSupport,
  onAction,
}: {
  tenant: Tenant;
  canArm: boolean;
  canSupport: boolean;
  onAction: (action: TenantAction) => void;
}) {
  return (
    <>
      {canSupport && tenant.armed && (tenant.sessions?.length ?? 0) === 0 && (
        <button type="button" class="button small" aria-label={`Start session with ${tenant.id}`} onClick={() => onAction({ kind: 'start', tenant })}>
          Start session
        </button>
      )}
      {canArm &&
        !tenant.retired &&
        (tenant.armed ? (
          <button type="button" class="button small" aria-label={`Disarm ${tenant.id}`} onClick={() => onAction({ kind: 'disarm', tenant })}>
            Disarm
          </button>
        ) : (
          <button type="button" class="button small" aria-label={`Arm ${tenant.id}`} onClick={() => onAction({ kind: 'arm', tenant })}>
            Arm
          </button>
        ))}
    </>
  );
}

function TenantDetails({
  tenant,
  canArm,
  canSupport,
  canKeep,
  canRead,
  active,
  onAction,
}: {
  tenant: Tenant;
  canArm: boolean;
  canSupport: boolean;
  canKeep: boolean;
  canRead: boolean;
  active: boolean;
  onAction: (action: TenantAction) => void;
}) {
  return (
    <>
      <div class="same">
        <TenantButtons tenant={tenant} canArm={canArm} canSupport={canSupport} onAction={onAction} />
        {canKeep && (
          <>
            <button type="button" class="button small" onClick={() => onAction({ kind: 'change', tenant })}>
              {tenant.retired ? 'Bring back' : 'Change'}
            </button>
            {!tenant.retired && (
              <button type="button" class="button small" onClick={() => onAction({ kind: 'consent', tenant })}>
                Record consent
              </button>
            )}
            {!tenant.retired && !tenant.armed && (
              <button type="button" class="button small" onClick={() => onAction({ kind: 'retire', tenant })}>
                Retire
              </button>
            )}
          </>
        )}
        {canRead && (
          <a class="button small" href={href('/settings/audit', { tenant: tenant.id, since: '7d' })}>
            Its calls
          </a>
        )}
        <button type="button" class="button small" aria-pressed={active} onClick={() => setActiveTenant(active ? null : tenant.id)}>
          {active ? 'Not the active one any more' : 'Make active'}
        </button>
      </div>
      <section class="facts-section">
        <h3>Tenant</h3>
        <dl>
          <div class="fact">
            <dt>Name</dt>
            <dd>{tenant.name}</dd>
          </div>
          <div class="fact">
            <dt>Id</dt>
            <dd>
              <Copyable text={tenant.id} what="the tenant’s id" />
            </dd>
          </div>
          <div class="fact">
            <dt>Agents</dt>
            <dd>{tenant.agents}</dd>
          </div>
          <div class="fact">
            <dt>Last activity</dt>
            <dd>
              <When time={tenant.last_activity} />
            </dd>
          </div>
        </dl>
      </section>
      <section class="facts-section">
        <h3>Consent</h3>
        <dl>
          {!tenant.consent.given && (
            <div class="fact">
              <dt>Given</dt>
              <dd>
                <span class="tone-warn">not on record</span>
              </dd>
            </div>
          )}
          {tenant.consent.document_id && (
            <div class="fact">
              <dt>Document</dt>
              <dd>
                <Copyable text={tenant.consent.document_id} what="the document’s id" />
              </dd>
            </div>
          )}
          {tenant.consent.given && (
            <div class="fact">
              <dt>Recorded</dt>
              <dd>
                <When time={tenant.consent.at} />
              </dd>
            </div>
          )}
          {tenant.consent.recorded_by && (
            <div class="fact">
              <dt>By</dt>
              <dd>{tenant.consent.recorded_by}</dd>
            </div>
          )}
        </dl>
      </section>
      <section class="facts-section">
        <h3>Remote support</h3>
        <dl>
          <div class="fact">
            <dt>State</dt>
            <dd>{tenant.armed ? 'Armed' : tenant.retired ? 'Retired' : 'Disarmed'}</dd>
          </div>
          {tenant.retired && (
            <>
              <div class="fact">
                <dt>Retired</dt>
                <dd>
                  <When time={tenant.retired_at} />
                </dd>
              </div>
              <div class="fact">
                <dt>By</dt>
                <dd>{tenant.retired_by && <Actor id={tenant.retired_by} />}</dd>
              </div>
              <div class="fact">
                <dt>Reason</dt>
                <dd>{tenant.retired_reason}</dd>
              </div>
            </>
          )}
          {tenant.armed && (
            <div class="fact">
              <dt>Since</dt>
              <dd>
                <When time={tenant.armed_at} />
              </dd>
            </div>
          )}
          {tenant.armed_by && (
            <div class="fact">
              <dt>By</dt>
              <dd>
                <Actor id={tenant.armed_by} />
              </dd>
            </div>
          )}
          {tenant.armed_reason && (
            <div class="fact">
              <dt>Reason</dt>
              <dd>{tenant.armed_reason}</dd>
            </div>
          )}
        </dl>
        <SessionList sessions={tenant.sessions ?? []} onEnd={canSupport ? (session) => onAction({ kind: 'end', tenant, session: session.id }) : undefined} />
      </section>
    </>
  );
}
