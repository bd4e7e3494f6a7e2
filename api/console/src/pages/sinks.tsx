import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { useChange } from '../lib/change';
import { formatCount, formatRate, plural } from '../lib/format';
import { call } from '../lib/http';
import { useKeys } from '../lib/keys';
import { type Polled, usePoll } from '../lib/poll';
import { href, setQuery, usePlace } from '../lib/router';
import { formatDuration, now, parseTime, timeText, useNow } from '../lib/time';
import type { Backfill, Operator, Sink } from '../lib/types';
import { Actor, Copyable, Empty, Skeleton, When } from '../ui/bits';
import { Dialog } from '../ui/dialog';
import { Drawer } from '../ui/drawer';
import { Field } from '../ui/fields';
import { Failure, FormError, Notice, StaleNotice } from '../ui/notice';
import { TableWrap } from '../ui/table-wrap';
import { toast } from '../ui/toast';
import { Form, SubmitRow } from './tenant-actions';

const STATE: Record<Sink['state'], { word: string; tone: string }> = {
  shipping: { word: 'Shipping', tone: 'ok' },
  idle: { word: 'Up to date', tone: 'ok' },
  retrying: { word: 'Retrying', tone: 'bad' },
  paused: { word: 'Paused', tone: 'warn' },
  down: { word: 'Down', tone: 'bad' },
  undeclared: { word: 'Undeclared', tone: 'plain' },
};

/** Rows leave that soon: as the alert has it. */
const LEAVING = 14 * 86_400_000;

function path(sink: string, verb = ''): string {
  return `/v1/sinks/${encodeURIComponent(sink)}${verb}`;
}

/** Where the log is given to, and how far each receiver is. */
export function SinksPage({ me }: { me: Operator }) {
  const { query } = usePlace();
  const polled = usePoll('sinks', (signal) => call<{ sinks: Sink[] }>('/v1/sinks', { signal }), 5000);
  useKeys({ r: polled.reload });
  const sinks = polled.data?.sinks ?? [];
  const bad = sinks.filter((s) => STATE[s.state].tone === 'bad').length;
  const openName = query.get('sink');
  const open = openName ? sinks.find((s) => s.sink === openName) : undefined;
  return (
    <div class={openName ? 'page with-drawer' : 'page'}>
      <header class="page-head">
        <h1>
          Sinks{' '}
          {polled.data && (
            <span class={bad > 0 ? 'head-count tone-bad' : 'head-count'}>
              ({sinks.length}
              {bad > 0 && <> · {bad} not shipping</>})
            </span>
          )}
        </h1>
      </header>
      <StaleNotice polled={polled} what="The list" />
      {polled.error && !polled.data ? (
        <Failure error={polled.error} retry={polled.reload} />
      ) : !polled.data ? (
        <Skeleton rows={3} />
      ) : sinks.length === 0 ? (
        <Empty title="The log is shipped nowhere">Sinks are declared on the host of argusd ship. docs/ship.md says how.</Empty>
      ) : (
        <TableWrap>
          <table class="list open-rows sinks">
            <thead>
              <tr>
                <th scope="col">Sink</th>
                <th scope="col">State</th>
                <th scope="col" class="num">
                  Behind
                </th>
                <th scope="col" class="num">
                  Rows/s
                </th>
                <th scope="col" class="num">
                  Set aside
                </th>
                <th scope="col">Acknowledged</th>
              </tr>
            </thead>
            <tbody>
              {sinks.map((s) => (
                <SinkRow key={s.sink} sink={s} open={s.sink === openName} again={openName !== null} />
              ))}
            </tbody>
          </table>
        </TableWrap>
      )}
      {openName && (
        <Drawer label="Sink" focusKey={openName} onClose={() => setQuery({ sink: null })} head={<span class="mono">{openName}</span>}>
          {open ? (
            <SinkDetails key={open.sink} sink={open} polled={polled} mayChange={me.scopes.includes('sinks:write')} />
          ) : polled.data ? (
            <Empty title="There is no such sink">Sinks are declared on the host of argusd ship.</Empty>
          ) : (
            <Skeleton />
          )}
        </Drawer>
      )}
    </div>
  );
}

function State({ sink }: { sink: Sink }) {
  return <span class={`pill-state tone-${STATE[sink.state].tone}`}>{STATE[sink.state].word}</span>;
}

/** What keeps a sink from shipping, while it does. */
function Problem({ sink }: { sink: Sink }) {
  const time = useNow(1);
  switch (sink.state) {
    case 'retrying': {
      const next = sink.next_retry_at ? parseTime(sink.next_retry_at) : null;
      return (
        <>
          <span class="sub-line wrap-anywhere">{sink.last_error}</span>
          {next !== null && (
            <span class="sub-line">{next > time ? `Next try in ${formatDuration(Math.ceil((next - time) / 1000) * 1000)}` : 'Trying now'}</span>
          )}
        </>
      );
    }
    case 'paused':
      return sink.paused_by ? (
        <span class="sub-line">
          by <Actor id={sink.paused_by} />
        </span>
      ) : null;
    case 'down':
      return <span class="sub-line">No process ships to it</span>;
    case 'undeclared':
      return <span class="sub-line">No file names it any more</span>;
  }
  return null;
}

function leaves(sink: Sink): boolean {
  return sink.retention_at !== null && (parseTime(sink.retention_at) ?? 0) - now() < LEAVING;
}

function Lag({ sink }: { sink: Sink }) {
  return (
    <>
      <span class={sink.lag_seconds > 900 && sink.state !== 'paused' ? 'tone-bad' : ''}>{plural(sink.lag_rows, 'row')}</span>
      {sink.lag_rows > 0 && <span class="sub-line">{formatDuration(Math.round(sink.lag_seconds * 10) * 100)}</span>}
      {leaves(sink) && (
        <span class="sub-line">
          <span class="tone-bad">rows leave soon</span>
        </span>
      )}
    </>
  );
}

function SinkRow({ sink, open, again }: { sink: Sink; open: boolean; again: boolean }) {
  return (
    <tr
      class={open ? 'open' : ''}
      onClick={(e) => {
        if (!(e.target as HTMLElement).closest('button, a')) setQuery({ sink: sink.sink }, again);
      }}
    >
      <td>
        <a class="cell-main" href={href('/sinks', { sink: sink.sink })}>
          {sink.sink}
        </a>
        <span class="sub-line wrap-anywhere">
          {sink.type} · <span class="mono">{sink.target}</span>
        </span>
      </td>
      <td>
        <State sink={sink} />
        <Problem sink={sink} />
      </td>
      <td class="num" data-label="Behind">
        <Lag sink={sink} />
      </td>
      <td class="num" data-label="Rows/s">
        {formatRate(sink.rows_per_second)}
      </td>
      <td class="num" data-label="Set aside">
        <span class={sink.rejected_rows > 0 ? 'tone-bad' : ''}>{formatCount(sink.rejected_rows)}</span>
      </td>
      <td data-label="Acknowledged">
        <When time={sink.acknowledged_at} />
      </td>
    </tr>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div class="fact">
      <dt>{name}</dt>
      <dd class="wrap-anywhere">{children}</dd>
    </div>
  );
}

function SinkDetails({ sink, polled, mayChange }: { sink: Sink; polled: Polled<{ sinks: Sink[] }>; mayChange: boolean }) {
  const changer = useChange();
  const [asking, setAsking] = useState(false);
  const [tested, setTested] = useState<{ state: string; problem: string | null } | null>(null);
  const put = (changed: Sink) => polled.put({ sinks: (polled.data?.sinks ?? []).map((s) => (s.sink === changed.sink ? changed : s)) });
  const turn = async (verb: 'pause' | 'resume') => {
    const changed = await changer.run<Sink>(path(sink.sink, `/${verb}`), undefined);
    if (!changed) return;
    put(changed);
    toast(`${sink.sink} ${verb === 'pause' ? 'is paused' : 'goes on'}.`, changer.auditId());
  };
  const paused = sink.paused_at !== null;
  return (
    <>
      {mayChange && (
        <div class="same">
          <button type="button" class="button small" disabled={changer.busy} onClick={() => void turn(paused ? 'resume' : 'pause')}>
            {paused ? 'Resume' : 'Pause'}
          </button>
          <button
            type="button"
            class="button small"
            disabled={changer.busy}
            onClick={async () => {
              setTested(null);
              setTested((await changer.run<{ state: string; problem: string | null }>(path(sink.sink, '/test'), undefined)) ?? null);
              polled.reload();
            }}
          >
            {changer.busy ? 'Working…' : 'Test'}
          </button>
          <button type="button" class="button small" disabled={changer.busy} onClick={() => setAsking(true)}>
            Backfill
          </button>
        </div>
      )}
      <FormError error={changer.error} />
      {tested && (
        <Notice tone={tested.state === 'done' ? 'info' : 'bad'}>
          {tested.state === 'done'
            ? 'The receiver takes batches.'
            : tested.state === 'failed'
              ? `The receiver takes no batch: ${tested.problem ?? ''}`
              : 'No process has taken up the test yet.'}
        </Notice>
      )}
      {leaves(sink) && (
        <Notice tone="bad">
          Rows that this sink has not taken may leave Postgres from {timeText(sink.retention_at ?? '')}. Resume or mend it before, or add a hold with argusd
          maintain hold.
        </Notice>
      )}
      <section class="facts-section">
        <h3>State</h3>
        <dl>
          <Fact name="State">
            <State sink={sink} />
            <Problem sink={sink} />
          </Fact>
          <Fact name="Behind">
            <Lag sink={sink} />
          </Fact>
          <Fact name="Rate">{formatRate(sink.rows_per_second)} rows/s</Fact>
          <Fact name="Shipped">{plural(sink.rows, 'row')}</Fact>
          <Fact name="Set aside">{plural(sink.rejected_rows, 'row')}</Fact>
          <Fact name="Acknowledged">
            <When time={sink.acknowledged_at} />
          </Fact>
          {sink.newest && (
            <Fact name="Newest batch">
              <Copyable text={sink.newest.batch} what="the batch" />
            </Fact>
          )}
          {sink.last_error && (
            <Fact name="Last error">
              {sink.last_error}
              <p>
                <When time={sink.error_at} />
              </p>
            </Fact>
          )}
          {sink.host && <Fact name="Shipped by">{sink.host}</Fact>}
        </dl>
      </section>
      <section class="facts-section">
        <h3>Declared</h3>
        <dl>
          <Fact name="Type">{sink.type}</Fact>
          <Fact name="Target">
            <Copyable text={sink.target} what="the target" />
          </Fact>
          <Fact name="Format">{sink.format}</Fact>
          <Fact name="Filter">{sink.filter ? <Copyable text={sink.filter} what="the filter" /> : 'all rows'}</Fact>
        </dl>
      </section>
      {sink.backfills.length > 0 && (
        <section class="facts-section">
          <h3>Backfills</h3>
          <ul class="service-routes">
            {sink.backfills.map((b) => (
              <BackfillItem key={b.id} backfill={b} filtered={sink.filter !== ''} />
            ))}
          </ul>
        </section>
      )}
      {asking && (
        <BackfillDialog
          sink={sink}
          onClose={() => setAsking(false)}
          onDone={(changed) => {
            put(changed);
            setAsking(false);
          }}
        />
      )}
    </>
  );
}

const BACKFILL = { asked: 'Waiting', running: 'Running', done: 'Done', failed: 'Failed' } as const;

function BackfillItem({ backfill, filtered }: { backfill: Backfill; filtered: boolean }) {
  const { state, rows, shipped } = backfill;
  return (
    <li>
      {BACKFILL[state]}: since {timeText(backfill.since)}
      {state === 'running' && rows !== null && (
        <progress value={Math.min(shipped, rows)} max={Math.max(rows, 1)} aria-label={`Backfill since ${timeText(backfill.since)}`} />
      )}
      <span class="sub-line wrap-anywhere">
        {rows !== null && `${formatCount(shipped)} of ${plural(rows, 'row')}${filtered ? ' looked at' : ''} · `}by <Actor id={backfill.asked_by} />
        {backfill.error && <span class="tone-bad"> · {backfill.error}</span>}
      </span>
    </li>
  );
}

/** Asks for what happened since a time, once more. */
function BackfillDialog({ sink, onClose, onDone }: { sink: Sink; onClose: () => void; onDone: (sink: Sink) => void }) {
  const changer = useChange();
  const [since, setSince] = useState('');
  return (
    <Dialog title="Backfill a sink" onClose={onClose}>
      <Form
        onSubmit={async () => {
          if (!since.trim()) return;
          const changed = await changer.run<Sink>(path(sink.sink, '/backfill'), { since: since.trim() });
          if (!changed) return;
          toast(`A backfill of ${sink.sink} is asked for.`, changer.auditId());
          onDone(changed);
        }}
      >
        <p>
          Sends <b>{sink.sink}</b> what happened since then and was shipped already, in batches of their own beside the live stream.
        </p>
        <Field label="Since" hint="How long ago, as 12h or 30d, or a time, as 2026-01-31.">
          {(id, hint) => (
            <input
              id={id}
              aria-describedby={hint}
              class="mono"
              autofocus
              required
              autocomplete="off"
              value={since}
              onInput={(e) => setSince(e.currentTarget.value)}
            />
          )}
        </Field>
        <SubmitRow changer={changer} ready={since.trim() !== ''} label="Backfill" onClose={onClose} />
      </Form>
    </Dialog>
  );
}
