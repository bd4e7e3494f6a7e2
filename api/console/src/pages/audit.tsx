import type { RefObject } from 'preact';
import { useCallback, useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { CallDrawer } from '../audit/call-drawer';
import { asksSteps, type Column, ColumnMenu, useColumns } from '../audit/columns';
import { ExportMenu } from '../audit/export';
import { Feed } from '../audit/feed';
import { FilterBar } from '../audit/filter-bar';
import { Histogram } from '../audit/histogram';
import { LiveNotice, LiveToggle } from '../audit/live';
import { SavedViews } from '../audit/saved-views';
import { LogTable } from '../audit/table';
import { hidesPolling, WITHOUT_POLLING } from '../lib/background';
import { addCondition, callOf, type Filter, filterOf, inView, namesCalls, VIEWS, WHOLE_LOG, withFilter, withView } from '../lib/filter';
import { formatCount, plural } from '../lib/format';
import { call } from '../lib/http';
import { focusNextFrame, useKeys } from '../lib/keys';
import { learnNames, useNames } from '../lib/names';
import { usePoll } from '../lib/poll';
import { go, href, setQuery, usePlace } from '../lib/router';
import { useStore } from '../lib/store';
import { parseTime, timeOf, useNow } from '../lib/time';
import type { Facets, Operator, Row } from '../lib/types';
import { Empty, Skeleton, Spinner } from '../ui/bits';
import * as icons from '../ui/icons';
import { Failure, SourceNotice, StaleNotice } from '../ui/notice';
import { WindowPicker } from '../ui/window-picker';

const PATH = '/settings/audit';
export const DEFAULT_WINDOW = '1h';
/** The time around a call, in milliseconds. */
const AROUND = 300_000;

/** The feed of a search. The one before stays on show until the new one has rows or has failed. */
function useFeed(key: string, make: () => Feed): { feed: Feed; pending: boolean } {
  const [shown, setShown] = useState<Feed>(make);
  const [next, setNext] = useState<Feed | null>(null);
  const first = useRef(true);
  useEffect(() => {
    if (first.current) {
      first.current = false;
      void shown.load();
      return;
    }
    const feed = make();
    setNext(feed);
    let gone = false;
    void feed.load().then(() => {
      if (gone) return;
      setShown((old) => {
        old.dispose();
        return feed;
      });
      setNext(null);
    });
    return () => {
      gone = true;
    };
  }, [key]);
  const last = useRef(shown);
  last.current = shown;
  useEffect(() => () => last.current.dispose(), []);
  return { feed: shown, pending: next !== null };
}

export function AuditPage({ me, scroller }: { me: Operator; scroller: RefObject<HTMLElement | null> }) {
  const { query } = usePlace();
  const names = useNames();
  const columns = useColumns();
  const [noRoom, setNoRoom] = useState<Column[]>([]);
  const filter = useMemo(() => filterOf(query), [query]);
  const since = filter.since || (namesCalls(filter.conditions) ? WHOLE_LOG : filter.until ? '365d' : DEFAULT_WINDOW);
  const ascending = query.get('order') === 'asc';
  const wantLive = query.get('live') === '1' && !ascending && !filter.until;
  const openId = query.get('row');

  const hides = hidesPolling(query, filter.conditions);
  const apiQuery = useMemo(
    () => withFilter(new URLSearchParams(), { ...filter, conditions: hides ? [...filter.conditions, WITHOUT_POLLING] : filter.conditions, since }),
    [filter, since, hides],
  );
  const steps = asksSteps(columns);
  const key = `${apiQuery.toString()}|${ascending}|${steps}`;
  const { feed, pending } = useFeed(key, () => {
    const params = new URLSearchParams(apiQuery);
    if (steps) params.set('steps', 'true');
    return new Feed(params, ascending, wantLive);
  });
  useStore(feed.version);

  const facets = usePoll<Facets>(`${apiQuery}`, async (signal) => {
    const params = new URLSearchParams(apiQuery);
    params.set('fields', 'actor,pat');
    params.set('follow', 'true'); // what no call had is the search's to tell
    const found = await call<Facets>('/v1/audit-log/facets', { query: params, signal });
    for (const values of Object.values(found.fields ?? {})) learnNames(Object.fromEntries(values.map((v) => [v.value, v.name])));
    void feed.refresh();
    return found;
  });

  useEffect(() => {
    if (wantLive) feed.start();
    else feed.stop();
  }, [wantLive, feed, me]); // after signing in again the feed goes on

  const setFilter = (next: Filter, replace = false, row: string | null = null) => {
    const changed = withFilter(query, next);
    changed.delete('row');
    if (row !== null) changed.set('row', row);
    if (next.until) changed.delete('live');
    go(href(PATH, changed), replace);
  };

  // Keys may come faster than the page is drawn: each goes on from where the one before it led.
  const [cursor, showCursor] = useState<string | null>(openId);
  const cursorNow = useRef(cursor);
  const setCursor = useCallback((id: string) => {
    cursorNow.current = id;
    showCursor(id);
  }, []);
  const [byKey, setByKey] = useState(false);
  useEffect(() => {
    if (openId) setCursor(openId);
  }, [openId]);

  // A row's address is this and its id: made once, not for each row.
  const rowHref = useMemo(() => {
    const rest = new URLSearchParams(query);
    rest.delete('row');
    const base = href(PATH, rest);
    return `${base}${base.includes('?') ? '&' : '?'}row=`;
  }, [query]);
  const open = useCallback(
    (row: Row) => {
      setByKey(false);
      setCursor(row.id);
      setQuery({ row: row.id }, openId !== null);
    },
    [openId],
  );

  const move = (by: number) => {
    if (feed.rows.length === 0) return;
    const at = cursorNow.current === null ? -1 : feed.rows.findIndex((r) => r.id === cursorNow.current);
    const to = Math.max(0, Math.min(feed.rows.length - 1, at < 0 ? 0 : at + by));
    const row = feed.rows[to]!;
    setCursor(row.id);
    setByKey(true);
    reveal(scroller.current, to);
    if (openId) {
      setQuery({ row: row.id }, true);
      return;
    }
    // Enter opens what has the focus: it is given at once, and again when a row further on has been drawn.
    const focus = () => document.querySelector<HTMLElement>(`tr[data-id="${row.id}"] a.route`)?.focus({ preventScroll: true });
    focus();
    focusNextFrame(() => cursorNow.current === row.id && focus());
  };
  useKeys({
    '/': () => document.getElementById('search')?.focus(),
    'mod+k': () => document.getElementById('search')?.focus(),
    j: () => move(1),
    k: () => move(-1),
    ArrowDown: (event) => (inTable(event) ? move(1) : false),
    ArrowUp: (event) => (inTable(event) ? move(-1) : false),
    Enter: (event) => {
      const row = feed.rows.find((r) => r.id === cursorNow.current);
      if (!row || openId || (event.target instanceof HTMLElement && event.target.closest('button, a, input'))) return false;
      open(row);
      return undefined;
    },
    l: () => toggleLive(),
    r: () => refresh(),
  });
  const toggleLive = () => setQuery(wantLive ? { live: null } : { live: '1', order: null, until: null, ...(filter.until && { since: null }) }, true);
  const refresh = () => {
    void feed.load();
    facets.reload();
  };

  const loaded = feed.rows.length;
  const total = facets.dataKey === apiQuery.toString() ? facets.data?.total : undefined;
  const openRow = openId ? feed.rows.find((r) => r.id === openId) : undefined;
  const rejected = feed.error && !feed.page ? feed.error : null;

  return (
    <div class={`audit ${openId ? 'with-drawer' : ''}`}>
      <header class="page-head">
        <h1>Audit log</h1>
        <div class="page-tools">
          <WindowPicker since={since} until={filter.until} onChange={(s, u) => setFilter({ ...filter, since: s, until: u })} />
          <LiveToggle feed={feed} on={wantLive} onToggle={toggleLive} />
          <ExportMenu
            fileName={`argus-audit-log_${new Date().toISOString().slice(0, 19).replace(/[-:]/g, '')}Z`}
            query={() => {
              const params = new URLSearchParams(apiQuery);
              params.set('order', ascending ? 'asc' : 'desc');
              return params;
            }}
          />
        </div>
      </header>

      <FilterBar
        filter={filter}
        since={since}
        me={me}
        placeholder={'actor:… route:"GET /v1/tenants/:id" status:5xx -client:argusctl'}
        onChange={setFilter}
        onSearch={(found) => {
          // The call that an id names is opened, under any filter and window.
          const id = callOf(found.conditions);
          if (id !== null) setFilter({ conditions: found.conditions, since: found.since ?? '', until: found.until ?? '' }, false, id);
          else if (namesCalls(found.conditions) && !found.since) setFilter({ ...found.conditions.reduce(addCondition, filter), since: '', until: '' });
          else return false;
          return true;
        }}
      >
        {hides ? (
          <li class="chip">
            <span class="chip-body">
              <span class="chip-text" title="Calls by which open consoles stay up to date. The log has them all.">
                Console’s own polling <b>hidden</b>
              </span>
              <button type="button" class="chip-remove" aria-label="Show the console’s own polling" onClick={() => setQuery({ polling: '1' })}>
                <icons.Close />
              </button>
            </span>
          </li>
        ) : (
          query.has('polling') && (
            <li>
              <button type="button" class="button quiet" onClick={() => setQuery({ polling: null })}>
                Hide the console’s own polling
              </button>
            </li>
          )
        )}
      </FilterBar>

      {rejected ? (
        <Failure error={rejected} scope="logs:read" retry={refresh} follow={wantLive ? undefined : toggleLive} />
      ) : (
        <>
          <SourceNotice answer={facets.error ? feed.page : (facets.data ?? feed.page)} />
          <StaleNotice polled={{ error: feed.error ?? facets.error, data: feed.page, at: feed.at || facets.at }} what="The log" />
          <LiveNotice feed={feed} />
          <Histogram facets={facets.data} onSelect={(s, u) => setFilter({ ...filter, since: s, until: u })} />

          <div class="views-row">
            <div class="views" role="group" aria-label="Views">
              {VIEWS.map(([name, view]) => (
                <button key={name} type="button" class="view" aria-pressed={inView(filter, view)} onClick={() => setFilter(withView(filter, view))}>
                  {name}
                </button>
              ))}
            </div>
            <SavedViews
              filter={filter}
              mayChange={me.scopes.includes('views:write')}
              onOpen={(view) => setFilter(view.since || view.until ? view : { ...view, since: filter.since, until: filter.until })}
            />
          </div>

          <div class="results-bar">
            <p class="results-count" aria-live="polite">
              {total !== undefined ? <b>{plural(total, 'call')}</b> : <span class="muted">Counting…</span>}
              {feed.page && <span class="muted"> · {formatCount(loaded)} loaded</span>}
              {feed.at > 0 && wantLive === false && <AsOf at={feed.at} />}
            </p>
            {feed.waiting > 0 && (
              <button
                type="button"
                class="button primary pill"
                onClick={() => {
                  scroller.current?.scrollTo({ top: 0 });
                  feed.showWaiting();
                }}
              >
                <icons.Up /> {plural(feed.waiting, 'new call')}
              </button>
            )}
            {(feed.loading || pending) && <Spinner />}
            <ColumnMenu left={noRoom} />
            <button type="button" class="icon-button" aria-label="Refresh" title="Refresh (r)" onClick={refresh}>
              <icons.Refresh />
            </button>
          </div>

          <div class={pending ? 'log-area pending' : 'log-area'} aria-busy={pending || feed.loading}>
            {!feed.page ? (
              <Skeleton rows={14} />
            ) : (
              <>
                <RowsTable
                  feed={feed}
                  names={names}
                  cursor={cursor}
                  openId={openId}
                  ascending={ascending}
                  scroller={scroller}
                  rowHref={rowHref}
                  onOpen={open}
                  columns={columns}
                  onLeft={setNoRoom}
                />
                {loaded === 0 && wantLive ? (
                  <Empty title={feed.page.awaited?.length ? 'Waiting for the first such call' : 'Waiting for the next such call'}>
                    {feed.page.awaited?.map((sentence) => (
                      <p key={sentence}>{sentence}</p>
                    ))}
                    <p>It appears here as soon as it is recorded.</p>
                  </Empty>
                ) : (
                  loaded === 0 && (
                    <Empty title="No calls match">
                      <p>
                        Nothing in this window fits the filter. Route filters match the template, such as <code>GET /v1/tenants/:id</code>, not the literal
                        address.
                      </p>
                      <div class="wider">
                        {hides && (
                          <button type="button" class="button small" onClick={() => setQuery({ polling: '1' })}>
                            With the console’s own polling
                          </button>
                        )}
                        {[
                          ['24h', 'Last 24 hours'],
                          ['30d', 'Last 30 days'],
                          ['365d', 'Last year'],
                        ].map(([span, label]) => (
                          <button key={span} type="button" class="button small" onClick={() => setFilter({ ...filter, since: span!, until: '' })}>
                            {label}
                          </button>
                        ))}
                      </div>
                    </Empty>
                  )
                )}
                <Foot feed={feed} />
              </>
            )}
          </div>
        </>
      )}

      {openId && (
        <CallDrawer
          id={openId}
          row={openRow}
          takeFocus={!byKey}
          permalink={`${location.origin}${location.pathname}${href(PATH, { row: openId })}`}
          onClose={() => {
            setQuery({ row: null }, false);
            focusNextFrame(() => document.querySelector<HTMLElement>('tr.marked a.route')?.focus({ preventScroll: true }));
          }}
          onFilter={(condition) => setFilter(addCondition(filter, condition))}
          onAround={(row) => {
            const at = parseTime(row.occurred_at)!;
            setFilter({ conditions: [], since: new Date(at - AROUND).toISOString(), until: new Date(at + AROUND).toISOString() }, false, row.id);
          }}
        />
      )}
    </div>
  );
}

/** The ages of rows change every few seconds; nothing else of the page needs to know. */
function RowsTable(props: {
  feed: Feed;
  names: ReadonlyMap<string, string>;
  cursor: string | null;
  openId: string | null;
  ascending: boolean;
  scroller: RefObject<HTMLElement | null>;
  rowHref: string;
  onOpen: (row: Row) => void;
  columns: Column[];
  onLeft: (left: Column[]) => void;
}) {
  const { feed } = props;
  const time = useNow(5);
  return (
    <LogTable
      rows={feed.rows}
      names={props.names}
      now={time}
      cursor={props.cursor}
      open={props.openId}
      fresh={feed.fresh}
      ascending={props.ascending}
      complete={feed.complete}
      scroller={props.scroller}
      rowHref={props.rowHref}
      onOpen={props.onOpen}
      columns={props.columns}
      onLeft={props.onLeft}
      onOrder={() => setQuery({ order: props.ascending ? null : 'asc', live: null, row: null })}
      onNearEnd={() => void feed.more()}
      onAway={(away) => feed.hold(away)}
    />
  );
}

function Foot({ feed }: { feed: Feed }) {
  return (
    <p class={feed.moreError ? 'log-foot failed' : 'log-foot'} aria-live="polite">
      {feed.moreError ? (
        <>
          <span class="tone-bad">{feed.moreError.message}</span>{' '}
          <button type="button" class="button small" onClick={() => void feed.more()}>
            Try again
          </button>
        </>
      ) : feed.complete ? (
        feed.rows.length > 0 && <span class="muted">The end: {plural(feed.rows.length, 'call')}.</span>
      ) : (
        <Spinner label="Loading more rows" />
      )}
    </p>
  );
}

function AsOf({ at }: { at: number }) {
  return <span class="muted"> · as of {timeOf(at).slice(11)}</span>;
}

function inTable(event: KeyboardEvent): boolean {
  return event.target instanceof HTMLElement && event.target.closest('table.log') !== null;
}

/** Scrolls so that a row is in the window, below what sticks to its top. */
function reveal(scroller: HTMLElement | null, index: number): void {
  const body = scroller?.querySelector<HTMLElement>('table.log tbody');
  if (!scroller || !body) return;
  const height = parseFloat(getComputedStyle(body).getPropertyValue('--row-height')) || 32;
  const head = 76;
  const top = body.getBoundingClientRect().top - scroller.getBoundingClientRect().top + index * height;
  if (top < head) scroller.scrollBy({ top: top - head });
  else if (top + height > scroller.clientHeight) scroller.scrollBy({ top: top + height - scroller.clientHeight + 8 });
}
