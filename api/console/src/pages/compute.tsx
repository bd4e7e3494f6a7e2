import { useState } from 'preact/hooks';
import { useChange } from '../lib/change';
import { formatPrice } from '../lib/format';
import { call } from '../lib/http';
import { useKeys } from '../lib/keys';
import { learnNames } from '../lib/names';
import { usePoll } from '../lib/poll';
import { href, setQuery, usePlace } from '../lib/router';
import { formatDuration, useNow } from '../lib/time';
import type { Operator, Worker } from '../lib/types';
import { Actor, Copyable, Empty, Skeleton, When } from '../ui/bits';
import { Dialog } from '../ui/dialog';
import { Drawer } from '../ui/drawer';
import { Field, ReasonField, TypedField, validReason } from '../ui/fields';
import * as icons from '../ui/icons';
import { Failure, StaleNotice } from '../ui/notice';
import { TableWrap } from '../ui/table-wrap';
import { toast } from '../ui/toast';
import { Form, SubmitRow } from './tenant-actions';

type Verb = 'stop' | 'resume' | 'terminate';
type Action = { kind: 'launch' } | { kind: Verb; worker: Worker };

const TONE: Record<Worker['state'], string> = {
  running: 'ok',
  stopped: 'plain',
  terminated: 'plain',
  failed: 'bad',
  launching: 'accent',
  stopping: 'accent',
  resuming: 'accent',
  terminating: 'accent',
};

function verbs(worker: Worker): Verb[] {
  if (worker.orphan) return worker.state === 'running' || worker.state === 'stopped' ? ['terminate'] : [];
  switch (worker.state) {
    case 'running':
      return ['stop', 'terminate'];
    case 'stopped':
      return ['resume', 'terminate'];
    default:
      return [];
  }
}

export function ComputePage({ me }: { me: Operator }) {
  const { query } = usePlace();
  const all = query.get('all') === '1';
  const polled = usePoll(all ? 'all' : 'running', async (signal) => {
    const list = await call<{ workers: Worker[]; actors?: Record<string, string> }>('/compute/ops/workers', { signal, query: all ? { all: 'true' } : {} });
    learnNames(list.actors);
    return list.workers ?? [];
  });
  const [action, setAction] = useState<Action | null>(null);
  const workers = polled.data ?? [];
  const running = workers.filter((w) => w.state === 'running');
  const cost = running.reduce((sum, w) => sum + (w.cost_per_hour ?? 0), 0);
  const openId = query.get('worker');
  const open = openId ? workers.find((w) => w.id === openId) : undefined;
  const canWrite = me.scopes.includes('compute:write');
  useKeys({ r: polled.reload });

  const done = (worker: Worker) => {
    setAction(null);
    const known = workers.some((w) => w.id === worker.id);
    const next = known ? workers.map((w) => (w.id === worker.id ? worker : w)) : [worker, ...workers];
    polled.put(next.filter((w) => all || w.state !== 'terminated'));
    polled.reload();
  };

  return (
    <div class={openId ? 'page with-drawer' : 'page'}>
      <header class="page-head">
        <h1>
          Running workers{' '}
          {polled.data && (
            <span class="head-count">
              ({running.length} of {workers.length} · {formatPrice(cost)}/hr)
            </span>
          )}
        </h1>
        <div class="page-tools">
          <label class="check">
            <input type="checkbox" checked={all} onChange={(e) => setQuery({ all: e.currentTarget.checked ? '1' : null }, true)} /> Terminated too
          </label>
          {canWrite && (
            <button type="button" class="button primary" onClick={() => setAction({ kind: 'launch' })}>
              <icons.Plus /> Launch
            </button>
          )}
        </div>
      </header>
      <StaleNotice polled={polled} what="The list" />
      {polled.error && !polled.data ? (
        <Failure error={polled.error} scope="compute:read" retry={polled.reload} />
      ) : !polled.data ? (
        <Skeleton rows={5} />
      ) : workers.length === 0 ? (
        <Empty title="No workers">{canWrite ? 'Launch one to see it here.' : 'None has been launched.'}</Empty>
      ) : (
        <TableWrap>
          <table class="list open-rows">
            <thead>
              <tr>
                <th scope="col">Worker</th>
                <th scope="col">State</th>
                <th scope="col" class="num">
                  $/hr
                </th>
                <th scope="col" class="num">
                  Uptime
                </th>
                <th scope="col" class="wide-only">
                  Launched by
                </th>
                {canWrite && (
                  <th scope="col" class="actions">
                    Action
                  </th>
                )}
              </tr>
            </thead>
            <tbody>
              {workers.map((w) => (
                <tr
                  key={w.id}
                  class={w.id === openId ? 'open' : ''}
                  onClick={(e) => {
                    if (!(e.target as HTMLElement).closest('button, a')) setQuery({ worker: w.id }, openId !== null);
                  }}
                >
                  <td>
                    <a class="cell-main mono" href={href('/compute', { ...(all && { all: '1' }), worker: w.id })}>
                      {w.id}
                    </a>
                    <span class="sub-line">
                      {w.provider}
                      {w.reason && <> · {w.reason}</>}
                    </span>
                  </td>
                  <td>
                    <WorkerState worker={w} />
                  </td>
                  <td class="num" data-label="$/hr">
                    {w.cost_per_hour === null ? '–' : formatPrice(w.cost_per_hour)}
                  </td>
                  <td class="num" data-label="Uptime">
                    <Uptime worker={w} at={polled.at} />
                  </td>
                  <td class="wide-only" data-label="By">
                    {w.launched_by ? <Actor id={w.launched_by} /> : <span class="muted">–</span>}
                  </td>
                  {canWrite && (
                    <td class="actions">
                      <WorkerButtons worker={w} onAction={setAction} />
                    </td>
                  )}
                </tr>
              ))}
            </tbody>
          </table>
        </TableWrap>
      )}
      {openId && (
        <Drawer label="Worker" focusKey={openId} onClose={() => setQuery({ worker: null })} head={<span class="mono ellipsis">{openId}</span>}>
          {open ? (
            <WorkerDetails worker={open} at={polled.at} me={me} onAction={setAction} />
          ) : polled.data ? (
            <Empty title="There is no such worker">It may have been terminated: show terminated ones too.</Empty>
          ) : (
            <Skeleton />
          )}
        </Drawer>
      )}
      {action?.kind === 'launch' && <LaunchDialog known={[...new Set(workers.map((w) => w.provider))]} onClose={() => setAction(null)} onDone={done} />}
      {action && action.kind !== 'launch' && <VerbDialog verb={action.kind} worker={action.worker} onClose={() => setAction(null)} onDone={done} />}
    </div>
  );
}

function WorkerState({ worker }: { worker: Worker }) {
  return (
    <>
      <span class={`pill-state tone-${TONE[worker.state] ?? 'plain'}`}>{worker.state}</span>
      {worker.orphan && (
        <span class="pill-state tone-warn" title="The provider runs it, but ARGUS did not launch it. It can only be terminated.">
          orphan
        </span>
      )}
    </>
  );
}

function Uptime({ worker, at }: { worker: Worker; at: number }) {
  useNow(1);
  if (worker.uptime_seconds === null) return <>–</>;
  const since = worker.state === 'running' && at > 0 ? Math.max(0, Date.now() - at) : 0;
  return <>{formatDuration(Math.floor(worker.uptime_seconds + since / 1000) * 1000)}</>;
}

const VERB: Record<Verb, string> = { stop: 'Stop', resume: 'Resume', terminate: 'Terminate' };

function WorkerButtons({ worker, onAction }: { worker: Worker; onAction: (action: Action) => void }) {
  return (
    <>
      {verbs(worker).map((verb) => (
        <button
          key={verb}
          type="button"
          class={`button small ${verb === 'terminate' ? 'danger-text' : ''}`}
          aria-label={`${VERB[verb]} ${worker.id}`}
          onClick={() => onAction({ kind: verb, worker })}
        >
          {VERB[verb]}
        </button>
      ))}
    </>
  );
}

function WorkerDetails({ worker, at, me, onAction }: { worker: Worker; at: number; me: Operator; onAction: (action: Action) => void }) {
  return (
    <>
      <div class="same">
        {me.scopes.includes('compute:write') && <WorkerButtons worker={worker} onAction={onAction} />}
        {me.scopes.includes('logs:read') && (
          <a class="button small" href={href('/settings/audit', { 'param.id': worker.id, since: '30d' })}>
            Its calls
          </a>
        )}
      </div>
      <section class="facts-section">
        <h3>Identity</h3>
        <dl>
          <div class="fact">
            <dt>Id</dt>
            <dd>
              <Copyable text={worker.id} what="the worker’s id" />
            </dd>
          </div>
          <div class="fact">
            <dt>Provider</dt>
            <dd>{worker.provider}</dd>
          </div>
          {Object.entries(worker.provider_ref ?? {}).map(([name, value]) => (
            <div class="fact" key={name}>
              <dt>{name}</dt>
              <dd class="mono wrap-anywhere">{typeof value === 'string' ? value : JSON.stringify(value)}</dd>
            </div>
          ))}
        </dl>
      </section>
      <section class="facts-section">
        <h3>Status</h3>
        <dl>
          <div class="fact">
            <dt>State</dt>
            <dd>
              <WorkerState worker={worker} />
            </dd>
          </div>
          <div class="fact">
            <dt>$/hr</dt>
            <dd>{worker.cost_per_hour === null ? '–' : formatPrice(worker.cost_per_hour)}</dd>
          </div>
          <div class="fact">
            <dt>Uptime</dt>
            <dd>
              <Uptime worker={worker} at={at} />
            </dd>
          </div>
          <div class="fact">
            <dt>Launched</dt>
            <dd>
              <When time={worker.launched_at} />
            </dd>
          </div>
          {worker.launched_by && (
            <div class="fact">
              <dt>By</dt>
              <dd>
                <Actor id={worker.launched_by} />
              </dd>
            </div>
          )}
          {worker.reason && (
            <div class="fact">
              <dt>Reason</dt>
              <dd>{worker.reason}</dd>
            </div>
          )}
        </dl>
        {worker.orphan && <p class="drawer-note">The provider runs it, but ARGUS did not launch it. It can only be terminated.</p>}
      </section>
    </>
  );
}

function LaunchDialog({ known, onClose, onDone }: { known: string[]; onClose: () => void; onDone: (worker: Worker) => void }) {
  const changer = useChange();
  const [provider, setProvider] = useState(known[0] ?? 'local');
  const [reason, setReason] = useState('');
  const [sure, setSure] = useState(false);
  const ready = provider.trim() !== '' && validReason(reason) && sure;
  return (
    <Dialog title="Launch a worker" onClose={onClose}>
      <Form
        onSubmit={async () => {
          if (!ready) return;
          const worker = await changer.run<Worker>('/compute/ops/launch', { provider: provider.trim(), reason: reason.trim() });
          if (!worker) return;
          toast(`${worker.id} is ${worker.state}.`, changer.auditId());
          onDone(worker);
        }}
      >
        <Field label="Provider">
          {(id) => (
            <>
              <input
                id={id}
                class="mono"
                list={`${id}-known`}
                value={provider}
                required
                autocomplete="off"
                onInput={(e) => setProvider(e.currentTarget.value)}
              />
              <datalist id={`${id}-known`}>
                {known.map((p) => (
                  <option key={p} value={p} />
                ))}
              </datalist>
            </>
          )}
        </Field>
        <ReasonField value={reason} onInput={setReason} autofocus />
        <label class="check">
          <input type="checkbox" checked={sure} onChange={(e) => setSure(e.currentTarget.checked)} />I understand that billing starts now.
        </label>
        <SubmitRow changer={changer} ready={ready} label="Launch" onClose={onClose} />
      </Form>
    </Dialog>
  );
}

const WHAT: Record<Verb, string> = {
  stop: 'The worker is suspended. Its disk stays, and it can be resumed.',
  resume: 'The worker runs again, and billing resumes.',
  terminate: 'The worker and its disk are destroyed. This cannot be undone.',
};

function VerbDialog({ verb, worker, onClose, onDone }: { verb: Verb; worker: Worker; onClose: () => void; onDone: (worker: Worker) => void }) {
  const changer = useChange();
  const [reason, setReason] = useState('');
  const [typed, setTyped] = useState('');
  const [sure, setSure] = useState(false);
  const ready = validReason(reason) && (verb === 'terminate' ? typed === worker.id : sure);
  return (
    <Dialog title={`${VERB[verb]} a worker`} onClose={onClose}>
      <Form
        onSubmit={async () => {
          if (!ready) return;
          const changed = await changer.run<Worker>(`/compute/ops/workers/${encodeURIComponent(worker.id)}/${verb}`, { reason: reason.trim() });
          if (!changed) return;
          toast(`${worker.id} is ${changed.state}.`, changer.auditId());
          onDone(changed);
        }}
      >
        <p>
          {WHAT[verb]} <span class="mono muted wrap-anywhere">{worker.id}</span>
        </p>
        {verb === 'terminate' && <TypedField label="Type the worker’s id" expected={worker.id} value={typed} onInput={setTyped} />}
        <ReasonField value={reason} onInput={setReason} autofocus={verb !== 'terminate'} />
        {verb !== 'terminate' && (
          <label class="check">
            <input type="checkbox" checked={sure} onChange={(e) => setSure(e.currentTarget.checked)} />
            Yes, {verb} this worker.
          </label>
        )}
        <SubmitRow changer={changer} ready={ready} label={VERB[verb]} danger={verb === 'terminate'} onClose={onClose} />
      </Form>
    </Dialog>
  );
}
