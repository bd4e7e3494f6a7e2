// Small parts that every page uses.

import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { formatMs } from '../lib/format';
import { useName } from '../lib/names';
import { ago, parseTime, timeText, useNow, utcText } from '../lib/time';
import * as icons from './icons';
import { toast } from './toast';

/** A time as "2026-01-31 12:00:00 UTC", and how long ago that was. Its tip is always UTC. */
export function When({ time, digits = 0, relative = true }: { time: string | null; digits?: number; relative?: boolean }) {
  const now = useNow(5);
  if (!time) return <span class="muted">never</span>;
  return (
    <time dateTime={time} class="when" title={utcText(time, 6)}>
      <span>{timeText(time, digits)}</span>
      {relative && <span class="muted when-ago">{ago(parseTime(time) ?? now, now)}</span>}
    </time>
  );
}

/** How long ago; the time itself as a tooltip. */
export function Ago({ time }: { time: string | null }) {
  const now = useNow(1);
  if (!time) return <span class="muted">never</span>;
  return (
    <time dateTime={time} title={utcText(time, 6)}>
      {ago(parseTime(time) ?? now, now)}
    </time>
  );
}

export function statusTone(status: number | null): 'ok' | 'warn' | 'bad' | 'cut' | 'plain' {
  if (status === null) return 'cut';
  if (status >= 500) return 'bad';
  if (status >= 400) return 'warn';
  return status >= 200 && status < 300 ? 'ok' : 'plain';
}

export function Status({ status }: { status: number | null }) {
  return (
    <span class={`status tone-${statusTone(status)}`} title={status === null ? 'The server crashed before it answered this call.' : undefined}>
      {status ?? 'interrupted'}
    </span>
  );
}

export function Latency({ us }: { us: number | null }) {
  return <span class={us !== null && us >= 1_000_000 ? 'slow' : ''}>{formatMs(us === null ? null : us / 1000)}</span>;
}

export const KIND_LABEL: Record<string, string> = {
  clerk_session: 'Session',
  oidc_session: 'OIDC session',
  pat: 'Token',
  break_glass: 'Break-glass',
  workload: 'Workload',
};

export function KindIcon({ kind }: { kind: string }) {
  const label = KIND_LABEL[kind] ?? kind;
  const Icon = kind === 'pat' ? icons.Key : kind === 'break_glass' ? icons.Flame : kind === 'workload' ? icons.Server : icons.Person;
  return (
    <span class={`kind kind-${kind}`} title={label} role="img" aria-label={label}>
      <Icon />
    </span>
  );
}

/** An operator's name, or the id when the name is not known. */
export function Actor({ id }: { id: string }) {
  const name = useName(id);
  return name ? <span title={id}>{name}</span> : <span class="mono">{id}</span>;
}

export async function copyText(text: string, what: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without the permission, or over plain http: the old way, from a field that is gone at once.
    const field = document.createElement('textarea');
    field.value = text;
    field.className = 'offscreen';
    (document.querySelector('dialog[open]') ?? document.body).append(field);
    field.select();
    document.execCommand('copy');
    field.remove();
  }
  toast(`Copied ${what}.`);
}

export function CopyButton({ text, what }: { text: string; what: string }) {
  const [done, setDone] = useState(false);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  return (
    <button
      type="button"
      class="icon-button small"
      aria-label={`Copy ${what}`}
      title={`Copy ${what}`}
      onClick={() => {
        void copyText(text, what).then(() => {
          setDone(true);
          clearTimeout(timer.current);
          timer.current = setTimeout(() => setDone(false), 1500);
        });
      }}
    >
      {done ? <icons.Check /> : <icons.Copy />}
    </button>
  );
}

/** Text in the fixed font that can be copied. */
export function Copyable({ text, what, children }: { text: string; what: string; children?: ComponentChildren }) {
  return (
    <span class="copyable">
      <span class="mono wrap-anywhere">{children ?? text}</span>
      <CopyButton text={text} what={what} />
    </span>
  );
}

export function Spinner({ label = 'Loading' }: { label?: string }) {
  return <span class="spinner" role="status" aria-label={label} />;
}

/** Grey bars where rows will stand. */
export function Skeleton({ rows = 8 }: { rows?: number }) {
  return (
    <div class="skeleton" role="status" aria-label="Loading">
      {Array.from({ length: rows }, (_, i) => (
        <div key={i} class={`skeleton-row w${(i * 7) % 4}`} />
      ))}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children && <div class="muted">{children}</div>}
    </div>
  );
}

/** A column's heading that sorts when pressed. */
export function SortHead({
  label,
  name,
  sort,
  onSort,
  numeric,
  spare,
  hint,
}: {
  label: string;
  name: string;
  sort: { by: string; down: boolean };
  onSort: (by: string, down: boolean) => void;
  numeric?: boolean;
  /** left out where there is little room */
  spare?: boolean;
  hint?: string;
}) {
  const active = sort.by === name;
  return (
    <th scope="col" class={`${numeric ? 'num' : ''} ${spare ? 'spare' : ''}`} aria-sort={active ? (sort.down ? 'descending' : 'ascending') : 'none'}>
      <button type="button" class="sort" title={hint} onClick={() => onSort(name, active ? !sort.down : numeric === true)}>
        {label}
        <span class={`sort-mark ${active ? 'on' : ''}`} aria-hidden="true">
          {active && !sort.down ? <icons.Up /> : <icons.Down />}
        </span>
      </button>
    </th>
  );
}
