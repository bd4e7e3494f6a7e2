import { useState } from 'preact/hooks';
import { WHOLE_LOG } from '../lib/filter';
import { useStore } from '../lib/store';
import { momentMs, now, parseDuration, parseTime, readShown, setZone, timeOf, toRFC3339, type Zone, zone, zoneName } from '../lib/time';
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
  const other = beside ? parseTime(beside) : null;
  const [day = '', clock = ''] = timeOf(ms).split(' ');
  const sameDay = other !== null && timeOf(other).slice(0, 10) === day;
  return `${sameDay ? '' : `${day} `}${clock.replace(/:00$/, '')}${beside ? ` ${zoneName(ms)}` : ''}`;
}

/** Chooses a window: one of the usual ones, or from one time to another. */
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
            key={zone.get()}
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

function CustomWindow({ since, until, onChange }: { since: string; until: string; onChange: (since: string, until: string) => void }) {
  const field = (ms: number | null) => (ms === null ? '' : timeOf(ms).slice(0, 19));
  const here = zoneName(now());
  const [from, setFrom] = useState(field(momentMs(since, now())));
  const [to, setTo] = useState(field(until ? momentMs(until, now()) : null));
  const [problem, setProblem] = useState('');
  const input = { class: 'mono', placeholder: 'YYYY-MM-DD HH:MM:SS', autocomplete: 'off', spellcheck: false };
  return (
    <form
      class="window-form"
      onSubmit={(event) => {
        event.preventDefault();
        const a = readShown(from);
        const b = to.trim() === '' ? null : readShown(to, now(), true);
        if (a === null || (to.trim() !== '' && b === null)) setProblem('Write a time as 2026-01-31 12:00:00, 10:00, yesterday or 1h.');
        else if (b !== null && b <= a) setProblem('The end lies before the start.');
        else onChange(toRFC3339(a), b === null ? '' : toRFC3339(b));
      }}
    >
      <label>
        From ({here})
        <input {...input} value={from} onInput={(e) => setFrom(e.currentTarget.value)} />
      </label>
      <label>
        To ({here}), leave blank for now
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
      <ZoneSwitch />
    </form>
  );
}

const ZONES: [Zone, string][] = [
  ['utc', 'UTC'],
  ['local', 'Local'],
];

/** In which zone the console shows times. */
function ZoneSwitch() {
  const shown = useStore(zone);
  return (
    <fieldset class="zones">
      <legend>Show times in</legend>
      {ZONES.map(([of, label]) => (
        <label key={of} class="check">
          <input type="radio" name="zone" checked={shown === of} onChange={() => setZone(of)} />
          {label}
          {of === 'local' && <span class="muted"> ({zoneName(now(), of)})</span>}
        </label>
      ))}
    </fieldset>
  );
}
