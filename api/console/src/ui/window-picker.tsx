import { useState } from 'preact/hooks';
import { WHOLE_LOG } from '../lib/filter';
import { momentMs, now, parseDuration, parseTime, toRFC3339, utcOf } from '../lib/time';
import * as icons from './icons';
import { Popover } from './menu';

const PRESETS: [string, string][] = [
  ['15m', 'Last 15 minutes'],
  ['1h', 'Last hour'],
  ['6h', 'Last 6 hours'],
  ['24h', 'Last 24 hours'],
  ['7d', 'Last 7 days'],
  ['30d', 'Last 30 days'],
  ['90d', 'Last 90 days'],
  ['365d', 'Last year'],
  [WHOLE_LOG, 'Whole log'],
];

/** "Last hour", or both ends. */
export function windowLabel(since: string, until: string): string {
  if (!until) {
    const preset = PRESETS.find(([span]) => span === since);
    if (preset) return preset[1];
    if (parseDuration(since) !== null) return `Last ${since}`;
    return `Since ${shortMoment(since)}`;
  }
  return `${shortMoment(since)} – ${shortMoment(until, since)}`;
}

function shortMoment(text: string, beside?: string): string {
  const ms = parseTime(text);
  if (ms === null) return `${text} ago`;
  const full = utcOf(ms);
  const other = beside ? parseTime(beside) : null;
  const text2 = other !== null && utcOf(other).slice(0, 10) === full.slice(0, 10) ? full.slice(11) : full;
  return text2.replace(/:00 UTC$/, ' UTC').replace(/ UTC$/, beside ? ' UTC' : '');
}

/** Chooses a window: one of the usual ones, or from one time (UTC) to another. */
export function WindowPicker({ since, until, onChange }: { since: string; until: string; onChange: (since: string, until: string) => void }) {
  return (
    <Popover
      label={
        <>
          <icons.Clock />
          <span>{windowLabel(since, until)}</span>
          <icons.Down />
        </>
      }
      panelLabel="Time window"
      className="button window-button"
      title="Time window"
      align="end"
    >
      {(close) => (
        <div class="window-panel">
          <div class="menu" role="group" aria-label="Usual windows">
            {PRESETS.map(([span, label]) => (
              <button
                key={span}
                type="button"
                class={`menu-item ${span === since && !until ? 'on' : ''}`}
                aria-pressed={span === since && !until}
                onClick={() => {
                  onChange(span, '');
                  close();
                }}
              >
                {label}
              </button>
            ))}
          </div>
          <CustomWindow
            since={since}
            until={until}
            onChange={(from, to) => {
              onChange(from, to);
              close();
            }}
          />
        </div>
      )}
    </Popover>
  );
}

/** "2026-01-31 12:00:00" or a part of it, in UTC; null when it is no time. */
function readUTC(text: string): number | null {
  const match = /^(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d)(:\d\d)?(\.\d+)?)?(?: ?UTC|Z)?$/.exec(text.trim());
  return match ? parseTime(`${match[1]}T${match[2] ?? '00:00'}${match[3] ?? ':00'}${match[4] ?? ''}Z`) : null;
}

function CustomWindow({ since, until, onChange }: { since: string; until: string; onChange: (since: string, until: string) => void }) {
  const field = (ms: number | null) => (ms === null ? '' : utcOf(ms).replace(' UTC', ''));
  const [from, setFrom] = useState(field(momentMs(since, now())));
  const [to, setTo] = useState(field(until ? momentMs(until, now()) : null));
  const [problem, setProblem] = useState('');
  const input = { class: 'mono', placeholder: 'YYYY-MM-DD HH:MM:SS', autocomplete: 'off', spellcheck: false };
  return (
    <form
      class="window-form"
      onSubmit={(event) => {
        event.preventDefault();
        const a = readUTC(from);
        const b = to.trim() === '' ? null : readUTC(to);
        if (a === null || (to.trim() !== '' && b === null)) setProblem('Write a time as 2026-01-31 12:00:00.');
        else if (b !== null && b <= a) setProblem('The end lies before the start.');
        else onChange(toRFC3339(a), b === null ? '' : toRFC3339(b));
      }}
    >
      <label>
        From (UTC)
        <input {...input} value={from} onInput={(e) => setFrom(e.currentTarget.value)} />
      </label>
      <label>
        To (UTC), leave blank for now
        <input {...input} value={to} onInput={(e) => setTo(e.currentTarget.value)} />
      </label>
      {problem && (
        <p class="form-error" role="alert">
          {problem}
        </p>
      )}
      <button type="submit" class="button">
        Show this window
      </button>
    </form>
  );
}
