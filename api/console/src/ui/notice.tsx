import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { ApiError } from '../lib/http';
import type { Polled } from '../lib/poll';
import { go, href, usePlace } from '../lib/router';
import { session } from '../lib/session';
import { useStore } from '../lib/store';
import { formatDuration, now, parseTime, timeOf, useNow } from '../lib/time';
import type { Answer, Meant } from '../lib/types';
import * as icons from './icons';

export function Notice({ tone, children }: { tone: 'info' | 'warn' | 'bad'; children: ComponentChildren }) {
  return (
    <div class={`notice ${tone}`} role={tone === 'bad' ? 'alert' : 'status'}>
      {tone === 'info' ? <icons.Info /> : <icons.Warn />}
      <div>{children}</div>
    </div>
  );
}

/** Above a page's data: it is old because the last try failed. */
export function StaleNotice({ polled, what }: { polled: Pick<Polled<unknown>, 'error' | 'data' | 'at'>; what: string }) {
  const time = useNow(1);
  if (!polled.error || polled.data === undefined || polled.error.status === 403 || polled.error.status === 401) return null;
  const age = Math.max(0, time - now() + Date.now() - polled.at);
  return (
    <Notice tone="warn">
      <b>{polled.error.status === 0 ? 'ARGUS cannot be reached.' : `${what} could not be refreshed.`}</b>{' '}
      {polled.error.status === 0 ? '' : `${polled.error.message} `}
      Shown is the state of {timeOf(polled.at)}, {formatDuration(Math.floor(age / 1000) * 1000)} ago; trying again.
    </Notice>
  );
}

/** How far the copy may be behind, in milliseconds, before the page says so. */
const LAG = 15_000;

/** Above an answer: Postgres gave it, or the copy is behind. */
export function SourceNotice({ answer }: { answer: Answer | undefined }) {
  // A single late answer is no news: the newest rows are always a moment ahead of the copy.
  const [behind, setBehind] = useState(0);
  const seen = useRef<Answer | undefined>(undefined);
  useEffect(() => {
    if (!answer || answer === seen.current) return;
    seen.current = answer;
    const through = answer.replicated_through ? parseTime(answer.replicated_through) : null;
    const lag = answer.source === 'clickhouse+postgres' && through !== null ? now() - through : 0;
    setBehind((n) => (lag > LAG ? n + 1 : 0));
  }, [answer]);
  if (!answer) return null;
  if (answer.source === 'postgres') {
    return (
      <Notice tone="warn">
        <b>Postgres answers instead of ClickHouse.</b> Nothing is missing, but long windows are slow or rejected until it is back.
      </Notice>
    );
  }
  const through = answer.replicated_through ? parseTime(answer.replicated_through) : null;
  if (behind < 2 || through === null) return null;
  return (
    <Notice tone="info">
      <b>The copy in ClickHouse lags {formatDuration(Math.floor((now() - through) / 1000) * 1000)} behind.</b> Nothing is missing: the rows since{' '}
      {timeOf(through)} are read from Postgres.
    </Notice>
  );
}

/** In place of a page's data: why there is none. */
export function Failure({ error, scope, retry, follow }: { error: ApiError; scope?: string; retry?: () => void; follow?: (() => void) | undefined }) {
  const state = useStore(session);
  if (error.status === 403) return <Forbidden error={error} scope={scope} scopes={state.step === 'signed-in' ? state.me.scopes : []} />;
  if (error.code === 'unknown_filter_value' && error.detail.parameter) return <UnknownValue error={error} follow={follow} />;
  return (
    <div class="failure" role="alert">
      <icons.Warn />
      <p class="empty-title">{error.status === 0 ? 'ARGUS cannot be reached' : error.status >= 500 ? 'The server could not answer' : 'That did not work'}</p>
      <p class="muted">{error.message}</p>
      <p class="faint mono">
        {error.code}
        {error.auditId && <> · {error.auditId}</>}
      </p>
      {retry && (
        <button type="button" class="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}

/** In place of "no such calls": a value that no call can have, and what was meant. The page's address holds the filter. */
function UnknownValue({ error, follow }: { error: ApiError; follow?: (() => void) | undefined }) {
  const { path, query } = usePlace();
  const name = error.detail.parameter!;
  const meant = error.detail.suggestions ?? [];
  const asked = query.getAll(name);
  // Of several values the sentence names the one that means nothing.
  const wrong = asked.find((value) => error.message.includes(`'${value}'`)) ?? asked[0];
  const to = (value: string | null) => {
    const next = new URLSearchParams();
    for (const [key, old] of query) {
      if (key !== name || old !== wrong) next.append(key, old);
      else if (value !== null && !asked.includes(value)) next.append(key, value);
    }
    go(href(path, next));
  };
  const textOf = (m: Meant) => (m.name ? `${m.name}, ${m.value}` : m.value);
  const from = meant.length > 0 ? error.message.indexOf(textOf(meant[0]!)) : -1;
  return (
    <div class="failure unknown-value" role="alert">
      <icons.Search />
      <p class="empty-title">
        {from < 0 ? `${error.message} ` : error.message.slice(0, from)}
        {meant.map((m, i) => (
          <span key={m.value}>
            {i > 0 && '; '}
            <button type="button" class="link" onClick={() => to(m.value)}>
              {textOf(m)}
            </button>
          </span>
        ))}
        {from >= 0 && error.message.slice(-1)}
      </p>
      <div class="wider">
        {wrong !== undefined && (
          <button type="button" class="button" onClick={() => to(null)}>
            Leave this filter out
          </button>
        )}
        {follow && !/actor|impersonator/.test(name) && (
          <button type="button" class="button" onClick={follow}>
            Wait for the first such call
          </button>
        )}
      </div>
    </div>
  );
}

function Forbidden({ error, scope, scopes }: { error: ApiError; scope?: string | undefined; scopes: string[] }) {
  return (
    <div class="failure" role="alert">
      <icons.Key />
      <p class="empty-title">
        {error.code === 'insufficient_scope' && scope ? (
          <>
            This needs the scope <code>{scope}</code>
          </>
        ) : (
          'Not allowed'
        )}
      </p>
      <p class="muted">{error.message}</p>
      <p class="muted">
        Your credential has {scopes.length === 0 ? 'no scopes' : <code>{scopes.join(', ')}</code>}. Ask an administrator, or sign in with one that has more.
      </p>
      {error.auditId && <p class="faint mono">{error.auditId}</p>}
    </div>
  );
}

/** A rejected change, inside its form. */
export function FormError({ error }: { error: ApiError | null }) {
  const time = useNow(1);
  const [until, setUntil] = useState(0);
  useEffect(() => setUntil(error && error.retryAfter > 0 ? now() + error.retryAfter * 1000 : 0), [error]);
  if (!error) return null;
  const left = Math.ceil((until - time) / 1000);
  return (
    <div class="form-error" role="alert">
      <p>{error.message}</p>
      {error.code === 'insufficient_scope' && <p>Your credential lacks the scope for this.</p>}
      {until > 0 && (left > 0 ? <p class="countdown">Try again in {left} s.</p> : <p class="countdown">You can try again now.</p>)}
      {error.auditId && <p class="faint mono">Audit id {error.auditId}</p>}
    </div>
  );
}

/** Seconds until a rejected change may be tried again; 0 when now. */
export function useCountdown(error: ApiError | null): number {
  const time = useNow(1);
  const [until, setUntil] = useState(0);
  useEffect(() => setUntil(error && error.retryAfter > 0 ? now() + error.retryAfter * 1000 : 0), [error]);
  return Math.max(0, Math.ceil((until - time) / 1000));
}
