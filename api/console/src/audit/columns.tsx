// The columns of the list that a person chooses, remembered in this browser. Time, route and status always stand there.
// testdata/columns.json is the one table of columns, for server, argusctl and console.

import type { ComponentChildren } from 'preact';
import table from '../../../../testdata/columns.json';
import { agentName } from '../lib/format';
import { Store, useStore } from '../lib/store';
import { timeText } from '../lib/time';
import type { Row } from '../lib/types';
import { KindIcon, Latency } from '../ui/bits';
import * as icons from '../ui/icons';
import { Popover } from '../ui/menu';

export interface Column {
  id: string;
  label: string;
  /** what it shows of a row, as a text; names gives those of actors */
  text: (row: Row, names: ReadonlyMap<string, string>) => string;
  /** what its tip says besides */
  tip?: (row: Row) => string;
  cell?: (row: Row, text: string) => ComponentChildren;
  /** in pixels: the least and the most it takes, also with long rows */
  width: [number, number];
  className: string;
  /** it stands before the route */
  before?: boolean;
}

/** The tenant of a call: see argus.Record.Tenant. */
export function tenantOf(row: Row): string {
  const path = row.route.slice(row.route.indexOf(' ') + 1);
  return row.path_params.tenant ?? (path.startsWith('/v1/tenants/:id') ? (row.path_params.id ?? '') : '');
}

/** What a row has under a name of the table, as a text. */
function textOf(row: Row, name: string): string {
  const value = row[name as keyof Row] ?? '';
  return typeof value === 'object'
    ? Object.entries(value)
        .map((pair) => pair.join('='))
        .join(' ')
    : String(value);
}

/** What a call did, in a few words: how each of its actions ended, and under which consent. */
function stepsOf(row: Row): string {
  const last = new Map((row.steps ?? []).map((s) => [`${s.table} ${s.action} ${s.worker_id ?? s.session_id}`, s]));
  return [...last.values()]
    .map((s) => `${s.action} ${s.result}${s.consent_document_id ? `, consent ${s.consent_document_id}` : ''}${s.error ? `: ${s.error}` : ''}`)
    .join(' · ');
}

/** Columns with a look of their own, in the order of their weight. */
const OWN: (Partial<Column> & { id: string })[] = [
  {
    id: 'actor_id',
    label: 'Actor',
    text: (row, names) => names.get(row.actor_id) ?? row.actor_id,
    tip: (row) => row.actor_id,
    cell: (row, text) => (
      <>
        <KindIcon kind={row.actor_kind} />
        <span class={text === row.actor_id ? 'ellipsis mono' : 'ellipsis'}>{text}</span>
      </>
    ),
    width: [110, 190],
    className: 'c-actor',
    before: true,
  },
  { id: 'tenant', text: tenantOf, width: [90, 190], className: 'c-tenant mono', before: true },
  {
    id: 'service',
    tip: (row) => (row.release ? `${row.service} ${row.release}` : row.service),
    width: [74, 150],
    className: 'c-service',
    before: true,
  },
  { id: 'release', width: [74, 130], className: 'c-release mono', before: true },
  { id: 'error_code', width: [90, 200], className: 'c-error tone-bad' },
  { id: 'latency_us', text: () => '', cell: (row) => <Latency us={row.latency_us} />, width: [78, 78], className: 'c-latency num' },
  { id: 'reason', width: [120, 320], className: 'c-reason' },
  { id: 'steps', text: stepsOf, width: [120, 320], className: 'c-steps' },
  { id: 'user_agent', label: 'Client', text: (row) => agentName(row.user_agent), tip: (row) => row.user_agent, width: [74, 150], className: 'c-client' },
  { id: 'agent', width: [74, 160], className: 'c-agent' },
  { id: 'client_ip', label: 'From', width: [100, 280], className: 'c-ip mono' },
  { id: 'impersonator_id', text: (row, names) => names.get(row.impersonator_id ?? '') ?? row.impersonator_id ?? '', className: 'c-more' },
  { id: 'actor_kind', text: (row) => row.actor_kind.replace('_', ' '), className: 'c-more' },
  { id: 'recorded_at', text: (row) => timeText(row.recorded_at, 6), className: 'c-more mono' },
];

/** What always stands there, and what a page of the log does not have: leaves, and names that the columns of ids show. */
const NOT_CHOSEN = ['occurred_at', 'route', 'status', 'method', 'leaf', 'actor_name', 'impersonator_name', 'tenant_name'];

export const COLUMNS: Column[] = [...OWN, ...table.map((c) => ({ id: c.name })).filter((c) => !OWN.some((own) => own.id === c.id))]
  .filter((c) => !NOT_CHOSEN.includes(c.id))
  .map((c) => ({
    label: table.find((t) => t.name === c.id)!.title,
    text: (row: Row) => textOf(row, c.id),
    width: [74, 300],
    className: 'c-more mono',
    ...c,
  }));

/** The part of the question that columns ask for: steps are asked for only where they are shown. */
export const asksSteps = (columns: Column[]): boolean => columns.some((c) => c.id === 'steps');

const KEY = 'argus.columns';
const USUAL = ['actor_id', 'service', 'latency_us', 'user_agent', 'client_ip'];

function read(): string[] {
  const text = localStorage.getItem(KEY);
  return text === null ? USUAL : text.split(',').filter((id) => COLUMNS.some((c) => c.id === id));
}

const chosen = new Store<string[]>(read());

/** The columns that were chosen. */
export function useColumns(): Column[] {
  const ids = useStore(chosen);
  return COLUMNS.filter((c) => ids.includes(c.id));
}

function choose(ids: string[] | null): void {
  if (ids) localStorage.setItem(KEY, ids.join(','));
  else localStorage.removeItem(KEY);
  chosen.set(ids ?? USUAL);
}

/** What the table needs beside the columns: a time (longer where a row says that it is late), a route that can be read, and the status. */
export const TIME = { usual: 244, late: 284 };
const ROUTE = 260;
const STATUS = 96;
/** Below this a row has two lines, as the stylesheet says, and no columns but the three. */
export const NARROW = 860;

export interface Fitting {
  columns: { column: Column; width: number }[];
  /** chosen, and without room */
  left: Column[];
}

/** As .mono of the stylesheet. */
const MONO = 'ui-monospace, SFMono-Regular, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace';
const known = new Map<string, number>();
let canvas: CanvasRenderingContext2D | null = null;

/** How wide a text is in a column, in pixels. */
export function widthOf(column: Column, text: string): number {
  const mono = column.className.includes('mono');
  const key = `${mono} ${text}`;
  let width = known.get(key);
  if (width === undefined) {
    canvas ??= document.createElement('canvas').getContext('2d')!;
    const { fontSize, fontFamily } = getComputedStyle(document.body);
    canvas.font = mono ? `${parseFloat(fontSize) * 0.94}px ${MONO}` : `${fontSize} ${fontFamily}`;
    width = canvas.measureText(text).width;
    if (known.size > 5000) known.clear();
    known.set(key, width);
  }
  return width;
}

/** The chosen columns that have room, each as wide as its rows need: need gives the widest text that a column has seen. */
export function fit(columns: Column[], width: number, time: number, need: ReadonlyMap<string, number>): Fitting {
  const left: Column[] = [];
  const fitting: Fitting['columns'] = [];
  let room = width <= NARROW ? 0 : width - time - ROUTE - STATUS;
  // From the one that matters most, which is the first one.
  for (const column of columns) {
    const [least, most] = column.width;
    const edges = column.id === 'actor_id' ? 40 : 18;
    // A heading is in capitals, some 8.5 pixels each, and is never cut.
    const head = Math.ceil(8.5 * column.label.length) + 16;
    const wide = Math.max(head, Math.min(most, Math.max(least, Math.ceil(need.get(column.id) ?? 0) + edges)));
    if (wide > room) left.push(column);
    else {
      fitting.push({ column, width: wide });
      room -= wide;
    }
  }
  return { columns: fitting, left };
}

/** Chooses the columns. left are those that were chosen and have no room. */
export function ColumnMenu({ left }: { left: Column[] }) {
  const ids = useStore(chosen);
  return (
    <Popover
      label={
        <>
          <icons.Columns />
          <span class="offscreen">Columns</span>
        </>
      }
      title="Columns"
      panelLabel="Columns"
      className="icon-button"
      align="end"
    >
      {() => (
        <div class="columns-panel">
          <fieldset>
            <legend class="menu-title">Columns</legend>
            {COLUMNS.map((c) => (
              <label key={c.id} class="check">
                <input
                  type="checkbox"
                  checked={ids.includes(c.id)}
                  onChange={(e) => choose(e.currentTarget.checked ? [...ids, c.id] : ids.filter((id) => id !== c.id))}
                />
                {c.label}
                {left.includes(c) && <span class="muted"> · no room</span>}
              </label>
            ))}
          </fieldset>
          <button type="button" class="button small" onClick={() => choose(null)}>
            The usual ones
          </button>
        </div>
      )}
    </Popover>
  );
}
