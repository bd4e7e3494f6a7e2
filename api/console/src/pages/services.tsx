import { formatCount, formatMs, formatPercent, formatRate, plural, splitRoute } from '../lib/format';
import { call } from '../lib/http';
import { useKeys } from '../lib/keys';
import { usePoll } from '../lib/poll';
import { countedCalls, href, setQuery, usePlace } from '../lib/router';
import type { Operator, Perf, PerfRow, Service, ServiceRoute } from '../lib/types';
import { Copyable, Empty, Skeleton, When } from '../ui/bits';
import { Drawer } from '../ui/drawer';
import { Failure, StaleNotice } from '../ui/notice';
import { TableWrap } from '../ui/table-wrap';

const WINDOW = '1h';

const TONE: Record<Service['health']['state'], string> = { ok: 'ok', failing: 'bad', unknown: 'plain' };
const WORD: Record<Service['health']['state'], string> = { ok: 'Healthy', failing: 'Failing', unknown: 'Not known' };

/** The services behind ARGUS that the operator may call, with the figures of their calls. */
export function ServicesPage({ me }: { me: Operator }) {
  const { query } = usePlace();
  const polled = usePoll('services', (signal) => call<{ services: Service[] }>('/v1/services', { signal }));
  const canRead = me.scopes.includes('logs:read');
  const perf = usePoll(canRead ? 'figures' : 'none', async (signal) => {
    if (!canRead) return new Map<string, PerfRow>();
    const found = await call<Perf>('/v1/perf', { signal, query: { group_by: 'service', since: WINDOW } });
    return new Map(found.rows.map((r) => [r.service ?? '', r]));
  });
  useKeys({ r: polled.reload });
  const services = polled.data?.services ?? [];
  const failing = services.filter((s) => s.health.state === 'failing').length;
  const openName = query.get('service');
  const open = openName ? services.find((s) => s.name === openName) : undefined;
  return (
    <div class={openName ? 'page with-drawer' : 'page'}>
      <header class="page-head">
        <h1>
          Services{' '}
          {polled.data && (
            <span class={failing > 0 ? 'head-count tone-bad' : 'head-count'}>
              ({services.length}
              {failing > 0 && <> · {failing} failing</>})
            </span>
          )}
        </h1>
      </header>
      <StaleNotice polled={polled} what="The list" />
      {polled.error && !polled.data ? (
        <Failure error={polled.error} retry={polled.reload} />
      ) : !polled.data ? (
        <Skeleton rows={4} />
      ) : (
        <>
          <TableWrap>
            <table class="list open-rows services">
              <thead>
                <tr>
                  <th scope="col">Service</th>
                  <th scope="col">Health</th>
                  <th scope="col" class="num">
                    Routes
                  </th>
                  <th scope="col" class="num">
                    RPM
                  </th>
                  <th scope="col" class="num">
                    Errors
                  </th>
                  <th scope="col" class="num">
                    p99
                  </th>
                </tr>
              </thead>
              <tbody>
                {services.map((s) => (
                  <ServiceRow key={s.name} service={s} figures={perf.data?.get(s.name)} open={s.name === openName} again={openName !== null} />
                ))}
              </tbody>
            </table>
          </TableWrap>
          <p class="faint small">{canRead ? 'Figures of the last hour. Errors are 5xx answers.' : 'Figures need the scope logs:read.'}</p>
        </>
      )}
      {openName && (
        <Drawer label="Service" focusKey={openName} onClose={() => setQuery({ service: null })} head={<span class="mono">{openName}</span>}>
          {open ? (
            <ServiceDetails service={open} figures={perf.data?.get(open.name)} canRead={canRead} />
          ) : polled.data ? (
            <Empty title="There is no such service">Or you may call none of its routes.</Empty>
          ) : (
            <Skeleton />
          )}
        </Drawer>
      )}
    </div>
  );
}

function HealthState({ service }: { service: Service }) {
  return <span class={`pill-state tone-${TONE[service.health.state]}`}>{WORD[service.health.state]}</span>;
}

function ServiceRow({ service, figures, open, again }: { service: Service; figures: PerfRow | undefined; open: boolean; again: boolean }) {
  return (
    <tr
      class={open ? 'open' : ''}
      onClick={(e) => {
        if (!(e.target as HTMLElement).closest('button, a')) setQuery({ service: service.name }, again);
      }}
    >
      <td>
        <a class="cell-main" href={href('/services', { service: service.name })}>
          {service.name}
        </a>
        <span class="sub-line mono wrap-anywhere">{service.mount}</span>
        {service.release && <span class="sub-line wrap-anywhere">{service.release}</span>}
      </td>
      <td>
        <HealthState service={service} />
        {service.health.error && <span class="sub-line wrap-anywhere">{service.health.error}</span>}
      </td>
      <td class="num" data-label="Routes">
        {service.routes.length}
      </td>
      <td class="num" data-label="RPM">
        {figures ? formatRate(figures.rpm) : '–'}
      </td>
      <td class="num" data-label="Errors">
        <span class={figures && figures.error_rate > 0 ? 'tone-bad' : ''}>{figures ? formatPercent(figures.error_rate) : '–'}</span>
      </td>
      <td class="num" data-label="p99">
        {formatMs(figures?.p99_ms ?? null)}
      </td>
    </tr>
  );
}

function ServiceDetails({ service, figures, canRead }: { service: Service; figures: PerfRow | undefined; canRead: boolean }) {
  return (
    <>
      {canRead && (
        <div class="same">
          <a class="button small" href={href('/settings/audit', { service: service.name, since: '24h' })}>
            Its calls
          </a>
          <a class="button small" href={href('/settings/audit', { service: service.name, status: '5xx', since: '24h' })}>
            Its errors
          </a>
          <a class="button small" href={href('/performance', { service: service.name, since: '24h' })}>
            Its performance
          </a>
        </div>
      )}
      <section class="facts-section">
        <h3>Service</h3>
        <dl>
          <div class="fact">
            <dt>Mount</dt>
            <dd>
              <Copyable text={service.mount} what="the mount" />
            </dd>
          </div>
          <div class="fact">
            <dt>Health</dt>
            <dd>
              <HealthState service={service} />
              {service.health.error && <p class="wrap-anywhere">{service.health.error}</p>}
            </dd>
          </div>
          {service.health.at && (
            <div class="fact">
              <dt>Looked at</dt>
              <dd>
                <When time={service.health.at} />
              </dd>
            </div>
          )}
          {service.release && (
            <div class="fact">
              <dt>Release</dt>
              <dd class="wrap-anywhere">{service.release}</dd>
            </div>
          )}
          {figures && (
            <div class="fact">
              <dt>Last hour</dt>
              <dd>
                {plural(figures.count, 'call')}, {formatPercent(figures.error_rate)} errors, {formatPercent(figures.client_error_rate)} 4xx, p99{' '}
                {formatMs(figures.p99_ms)}
                {figures.interrupted > 0 && <>, {formatCount(figures.interrupted)} interrupted</>}
              </dd>
            </div>
          )}
        </dl>
      </section>
      <section class="facts-section">
        <h3>{plural(service.routes.length, 'route')} for you</h3>
        <ul class="service-routes">
          {service.routes.map((r) => (
            <RouteItem key={r.route} route={r} canRead={canRead} />
          ))}
        </ul>
      </section>
    </>
  );
}

function RouteItem({ route, canRead }: { route: ServiceRoute; canRead: boolean }) {
  const { method, path } = splitRoute(route.route);
  const name = (
    <>
      <span class={`method m-${method.toLowerCase()}`}>{method}</span> <span class="mono wrap-anywhere">{path}</span>
    </>
  );
  return (
    <li>
      {canRead ? <a href={countedCalls(new URLSearchParams({ route: route.route, since: '24h' }))}>{name}</a> : name}
      <span class="sub-line">
        {route.scope}
        {route.reason_required && ' · needs a reason'}
        {route.confirm && ` · repeats ${route.confirm}`}
        {route.stream && ' · streams'}
      </span>
    </li>
  );
}
