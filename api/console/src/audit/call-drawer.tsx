import type { ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import type { Condition } from '../lib/filter';
import { formatBytes, formatMs, plural, splitRoute } from '../lib/format';
import { type ApiError, asApiError, call } from '../lib/http';
import { learnNames, useNames } from '../lib/names';
import { formatDuration, parseTime, timeText, utcText } from '../lib/time';
import type { CallDetail, Row, Step } from '../lib/types';
import { Actor, Copyable, copyText, KIND_LABEL, KindIcon, Skeleton, Status, When } from '../ui/bits';
import { Drawer } from '../ui/drawer';
import * as icons from '../ui/icons';
import { Failure } from '../ui/notice';
import { DigestCheck } from './digest-check';
import { evidence } from './evidence';
import { Seal } from './seal';

/** Everything about one call. */
export function CallDrawer({
  id,
  row,
  onClose,
  onFilter,
  onAround,
  permalink,
  takeFocus,
}: {
  id: string;
  /** the row when the table has it: shown until the whole call has come */
  row: Row | undefined;
  onClose: () => void;
  onFilter: (condition: Condition) => void;
  onAround: (row: Row) => void;
  permalink: string;
  takeFocus: boolean;
}) {
  const [detail, setDetail] = useState<CallDetail | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [attempt, setAttempt] = useState(0);

  useEffect(() => {
    const control = new AbortController();
    setError(null);
    // Running through rows with j and k asks only for those that are looked at.
    const timer = setTimeout(
      () =>
        call<CallDetail>(`/v1/audit-log/${encodeURIComponent(id)}`, { signal: control.signal }).then(
          (d) => {
            if (control.signal.aborted) return;
            learnNames(d.actors);
            setDetail(d);
          },
          (cause: unknown) => {
            if (!control.signal.aborted) setError(asApiError(cause));
          },
        ),
      row ? 120 : 0,
    );
    return () => {
      clearTimeout(timer);
      control.abort();
    };
  }, [id, attempt]);

  const full = detail?.id === id ? detail : null;
  const shown: Row | null = full ?? row ?? null;
  return (
    <Drawer
      label="Call"
      focusKey={takeFocus ? id : null}
      onClose={onClose}
      head={
        shown ? (
          <>
            <Status status={shown.status} />
            <span class="drawer-route" title={shown.route}>
              <span class={`method m-${splitRoute(shown.route).method.toLowerCase()}`}>{splitRoute(shown.route).method}</span> {splitRoute(shown.route).path}
            </span>
            <button
              type="button"
              class="icon-button"
              aria-label="Copy the permalink"
              title="Copy the permalink"
              onClick={() => void copyText(permalink, 'the permalink')}
            >
              <icons.Link />
            </button>
            {full && (
              <>
                <button
                  type="button"
                  class="icon-button"
                  aria-label="Copy as evidence"
                  title="Copy as evidence"
                  onClick={() => void copyText(evidence(full, permalink), 'the evidence')}
                >
                  <icons.Copy />
                </button>
                <button type="button" class="icon-button" aria-label="Print" title="Print" onClick={() => print()}>
                  <icons.Print />
                </button>
              </>
            )}
          </>
        ) : (
          <span>Call</span>
        )
      }
    >
      {!shown && !error && <Skeleton rows={12} />}
      {error && <Failure error={error} scope="logs:read" retry={() => setAttempt(attempt + 1)} />}
      {shown && <CallBody row={shown} detail={full} failed={error !== null} onFilter={onFilter} onAround={onAround} />}
    </Drawer>
  );
}

function Section({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <section class="facts-section">
      <h3>{title}</h3>
      {children}
    </section>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div class="fact">
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function CallBody({
  row,
  detail,
  failed,
  onFilter,
  onAround,
}: {
  row: Row;
  detail: CallDetail | null;
  failed: boolean;
  onFilter: (condition: Condition) => void;
  onAround: (row: Row) => void;
}) {
  const names = useNames();
  const filter = (name: string, value: string) => onFilter({ name, not: false, value });
  const recordedAfter = (parseTime(row.recorded_at) ?? 0) - (parseTime(row.occurred_at) ?? 0);
  return (
    <>
      {detail && <p class="drawer-sentence">{detail.sentence}</p>}
      {row.outcome === 'interrupted' && <p class="drawer-note">The server crashed during this call. The steps below show whether it took effect.</p>}
      <div class="same" role="group" aria-label="Related calls">
        <button type="button" class="button small" onClick={() => filter('actor', row.actor_id)}>
          Same actor
        </button>
        <button type="button" class="button small" onClick={() => filter('route', row.route)}>
          Same route
        </button>
        {row.service !== 'argus' && (
          <button type="button" class="button small" onClick={() => filter('service', row.service)}>
            Same service
          </button>
        )}
        {row.trace_id && (
          <button type="button" class="button small" onClick={() => filter('trace_id', row.trace_id!)}>
            Same trace
          </button>
        )}
        {row.pat_id && (
          <button type="button" class="button small" onClick={() => filter('pat', row.pat_id!)}>
            Same token
          </button>
        )}
        {row.break_glass_id && (
          <button type="button" class="button small" onClick={() => filter('break_glass', row.break_glass_id!)}>
            Same break-glass token
          </button>
        )}
        <button type="button" class="button small" onClick={() => filter('client_ip', row.client_ip)}>
          Same address
        </button>
        <button type="button" class="button small" title="All calls from five minutes before to five minutes after" onClick={() => onAround(row)}>
          Around it
        </button>
      </div>

      <Section title="What">
        <dl>
          <Fact name="Service">
            <Copyable text={row.service} what="the service" />
            {row.release && <span class="muted"> {row.release}</span>}
          </Fact>
          <Fact name="Route">
            <Copyable text={row.route} what="the route" />
          </Fact>
          {Object.entries(row.path_params ?? {}).map(([name, value]) => (
            <Fact key={name} name={`:${name}`}>
              <Copyable text={value} what={`the parameter ${name}`} />
            </Fact>
          ))}
          <Fact name="Arrived">
            <When time={row.occurred_at} digits={6} />
          </Fact>
          <Fact name="Recorded">
            {timeText(row.recorded_at, 6)}{' '}
            <span class="muted">{recordedAfter >= 1000 ? `${formatDuration(recordedAfter)} later` : `${formatMs(recordedAfter)} later`}</span>
          </Fact>
          <Fact name="Outcome">
            {row.outcome === 'completed' ? 'Completed' : 'Interrupted'}
            {row.status !== null && (
              <>
                {' '}
                with <Status status={row.status} />
              </>
            )}
          </Fact>
          {row.error_code && (
            <Fact name="Error">
              <Copyable text={row.error_code} what="the error’s code" />
            </Fact>
          )}
          {row.reason && <Fact name="Reason">{row.reason}</Fact>}
          <Fact name="Latency">
            {row.latency_us === null ? (
              '–'
            ) : (
              <>
                {formatMs(row.latency_us / 1000)} <span class="muted">{row.latency_us.toLocaleString('en-US')} µs</span>
              </>
            )}
          </Fact>
          <Fact name="Scope checked">
            <code>{row.scope}</code>
          </Fact>
        </dl>
      </Section>

      <Section title="Who">
        <dl>
          <Fact name="Actor">
            {names.has(row.actor_id) && (
              <div>
                <Actor id={row.actor_id} />
              </div>
            )}
            <Copyable text={row.actor_id} what="the actor" />
          </Fact>
          {row.impersonator_id && (
            <Fact name="Impersonated by">
              {names.has(row.impersonator_id) && (
                <div>
                  <Actor id={row.impersonator_id} />
                </div>
              )}
              <Copyable text={row.impersonator_id} what="the impersonator" />
            </Fact>
          )}
          <Fact name="Credential">
            <KindIcon kind={row.actor_kind} /> {KIND_LABEL[row.actor_kind] ?? row.actor_kind}
          </Fact>
          {Object.entries(row.workload ?? {}).map(([name, value]) => (
            <Fact key={name} name={name}>
              <Copyable text={value} what={`the claim ${name}`} />
            </Fact>
          ))}
          {row.agent && (
            <Fact name="Agent">
              <Copyable text={row.agent} what="the agent" />
            </Fact>
          )}
          {row.pat_id && (
            <Fact name="Token">
              {names.has(row.pat_id) && <div>{names.get(row.pat_id)}</div>}
              <Copyable text={row.pat_id} what="the token’s id" />
            </Fact>
          )}
          {row.break_glass_id && (
            <Fact name="Break-glass token">
              <Copyable text={row.break_glass_id} what="the break-glass token’s id" />
            </Fact>
          )}
          {row.break_glass_id && <Fact name="Break-glass reason">{detail?.break_glass_reason ?? '–'}</Fact>}
        </dl>
      </Section>

      <Section title="From where">
        <dl>
          <Fact name="Address">
            <Copyable text={row.client_ip} what="the address" />
          </Fact>
          <Fact name="User agent">{row.user_agent === '' ? <span class="muted">none</span> : <Copyable text={row.user_agent} what="the user agent" />}</Fact>
        </dl>
      </Section>

      <Section title="What was submitted">
        <dl>
          <Fact name="Body">
            {row.body_bytes === 0 ? (
              'empty'
            ) : (
              <>
                {formatBytes(row.body_bytes)}
                {row.body_bytes >= 1024 && <span class="muted"> {plural(row.body_bytes, 'byte')}</span>}
              </>
            )}
          </Fact>
          <Fact name="SHA-256">
            {row.body_sha256 ? <Copyable text={row.body_sha256} what="the digest" /> : <span class="muted">none: the body was too large or was cut off</span>}
          </Fact>
        </dl>
        {row.body_sha256 && <DigestCheck key={row.id} digest={row.body_sha256} bytes={row.body_bytes} />}
      </Section>

      {detail ? (
        <Steps steps={detail.steps ?? []} arrived={row.occurred_at} />
      ) : (
        row.method !== 'GET' &&
        !failed && (
          <Section title="Steps">
            <Skeleton rows={2} />
          </Section>
        )
      )}

      <Section title="Identity of the row">
        <dl>
          <Fact name="Call id">
            <Copyable text={row.id} what="the call’s id" />
          </Fact>
          {row.client_request_id && (
            <Fact name="Request id">
              <Copyable text={row.client_request_id} what="the request id" />
            </Fact>
          )}
          {row.trace_id && (
            <Fact name="Trace id">
              <Copyable text={row.trace_id} what="the trace id" />
            </Fact>
          )}
          <Fact name="Writer, number">
            {row.writer_id}, {row.seq}
          </Fact>
          <Fact name="Row hash">
            <Copyable text={row.row_hash} what="the row hash" />
          </Fact>
        </dl>
      </Section>

      <Section title="Proof">
        <Seal key={row.id} row={row} />
      </Section>
    </>
  );
}

const TONE: Record<string, string> = { succeeded: 'ok', failed: 'bad', denied: 'warn', requested: 'plain' };

function Steps({ steps, arrived }: { steps: Step[]; arrived: string }) {
  if (steps.length === 0) return null;
  return (
    <Section title="Steps">
      <ol class="steps">
        {steps.map((s) => (
          <li key={`${s.table}${s.step}`} class={`step tone-${TONE[s.result] ?? 'plain'}`}>
            <p>
              <b>{s.action}</b> {s.result}
              {s.from_state !== null || s.to_state !== null ? (
                <span class="muted">
                  {' '}
                  {s.from_state ?? '–'} → {s.to_state ?? '–'}
                </span>
              ) : null}
              <span class="muted step-at" title={utcText(s.at, 6)}>
                +{formatDurationExact((parseTime(s.at) ?? 0) - (parseTime(arrived) ?? 0))}
              </span>
            </p>
            {s.error && <p class="tone-bad">{s.error}</p>}
            <dl class="step-facts">
              {s.reason !== null && <Fact name="Reason">{s.reason}</Fact>}
              {s.worker_id !== null && (
                <Fact name="Worker">
                  <span class="mono">{s.worker_id}</span>
                </Fact>
              )}
              {s.provider !== null && <Fact name="Provider">{s.provider}</Fact>}
              {s.tenant_id !== null && (
                <Fact name="Tenant">
                  <span class="mono">{s.tenant_id}</span>
                </Fact>
              )}
              {s.session_id !== null && (
                <Fact name="Session">
                  <span class="mono wrap-anywhere">{s.session_id}</span>
                </Fact>
              )}
              {s.consent_document_id !== null && (
                <Fact name="Consent">
                  <span class="mono wrap-anywhere">{s.consent_document_id}</span>
                  {s.consent_recorded_by !== null && (
                    <span class="sub-line">
                      recorded by {s.consent_recorded_by}
                      {s.consent_recorded_at !== null && <>, {timeText(s.consent_recorded_at)}</>}
                    </span>
                  )}
                </Fact>
              )}
              {s.impersonator_id !== null && (
                <Fact name="By">
                  <Actor id={s.impersonator_id} /> as <Actor id={s.actor_id} />
                </Fact>
              )}
              {s.actor_id === 'system' && <Fact name="By">the system</Fact>}
            </dl>
          </li>
        ))}
      </ol>
    </Section>
  );
}

function formatDurationExact(ms: number): string {
  return ms < 1000 ? `${Math.max(0, Math.round(ms))} ms` : formatDuration(ms);
}
