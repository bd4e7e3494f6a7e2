// The table of calls. Only the rows near the window are elements, so that 100 000 loaded rows scroll as
// smoothly as a hundred; rows all have the same height, which the stylesheet says.

import { Component, type RefObject } from 'preact';
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import { splitRoute } from '../lib/format';
import { ago, isoShown, parseTime, timeParts, zoneName } from '../lib/time';
import type { Row } from '../lib/types';
import { Latency, Status } from '../ui/bits';
import { type Column, fit, NARROW, TIME, widthOf } from './columns';

const OVERSCAN = 12;
const CHUNK = 8;

interface TableProps {
  rows: Row[];
  names: ReadonlyMap<string, string>;
  now: number;
  cursor: string | null;
  open: string | null;
  fresh: ReadonlySet<string>;
  ascending: boolean;
  complete: boolean;
  scroller: RefObject<HTMLElement | null>;
  /** the address of a row but for its id */
  rowHref: string;
  onOpen: (row: Row) => void;
  onOrder: () => void;
  /** the window is near the last loaded row */
  onNearEnd: () => void;
  /** whether the first row is out of the window */
  onAway: (away: boolean) => void;
  columns: Column[];
  /** which columns have no room */
  onLeft: (left: Column[]) => void;
}

export function LogTable(props: TableProps) {
  const body = useRef<HTMLTableSectionElement>(null);
  const wrap = useRef<HTMLDivElement>(null);
  const [height, setHeight] = useState(32);
  const now = useRef(height); // what measure, kept from the first render, compares with
  now.current = height;
  const [width, setWidth] = useState(0);
  const known = useRef(0); // the height as last read from the stylesheet; 0 reads it anew
  const [range, setRange] = useState({ from: 0, to: 48 });
  const seenTop = useRef(0); // where the first row stood, seen from the window's top
  const anchor = useRef<{ index: number; y: number } | null>(null); // a row, and where it is to stand
  const latest = useRef(props);
  latest.current = props;

  const measure = (): void => {
    const scroller = props.scroller.current;
    if (!scroller || !body.current || !wrap.current) return;
    // Reading a style makes the browser lay out at once: only when the width has changed.
    const rowHeight = (known.current ||= parseFloat(getComputedStyle(body.current).getPropertyValue('--row-height')) || 32);
    const top = body.current.getBoundingClientRect().top - scroller.getBoundingClientRect().top;
    const first = Math.floor(-top / rowHeight) - OVERSCAN;
    const from = Math.max(0, Math.floor(first / CHUNK) * CHUNK);
    const to = Math.ceil((first + scroller.clientHeight / rowHeight + 2 * OVERSCAN) / CHUNK) * CHUNK;
    const before = now.current;
    if (rowHeight === before) {
      seenTop.current = top;
    } else if (seenTop.current < 0) {
      // The rows have become higher or lower, beside a drawer for instance: what is looked at stays where it is.
      const { cursor, rows } = latest.current;
      const marked = cursor === null ? -1 : rows.findIndex((r) => r.id === cursor);
      const y = seenTop.current + marked * before;
      const index = marked >= 0 && y > -before && y < scroller.clientHeight ? marked : Math.ceil(-seenTop.current / before);
      anchor.current = { index, y: seenTop.current + index * before };
    }
    setHeight(rowHeight);
    setWidth(wrap.current.clientWidth);
    setRange((r) => (r.from === from && r.to === to ? r : { from, to }));
    latest.current.onAway(-top > rowHeight * 0.5);
    if (latest.current.rows.length > 0 && to + 30 >= latest.current.rows.length) latest.current.onNearEnd();
  };

  useEffect(() => {
    const scroller = props.scroller.current!;
    let queued = 0;
    const later = () => {
      queued ||= requestAnimationFrame(() => {
        queued = 0;
        measure();
      });
    };
    scroller.addEventListener('scroll', later, { passive: true });
    let width = 0;
    const resize = new ResizeObserver(() => {
      if (wrap.current && wrap.current.clientWidth !== width) {
        width = wrap.current.clientWidth;
        known.current = 0;
      }
      later();
    });
    resize.observe(scroller);
    resize.observe(wrap.current!);
    return () => {
      cancelAnimationFrame(queued);
      scroller.removeEventListener('scroll', later);
      resize.disconnect();
    };
  }, []);
  useLayoutEffect(measure, [props.rows]);
  useLayoutEffect(() => {
    const scroller = props.scroller.current;
    const at = anchor.current;
    if (!scroller || !at) return;
    anchor.current = null;
    const top = body.current!.getBoundingClientRect().top - scroller.getBoundingClientRect().top;
    scroller.scrollTop += top + at.index * height - at.y;
    measure();
  }, [height]);

  const { rows } = props;
  // Columns grow with what their first rows hold and do not shrink again, so that a live tail moves nothing to and fro.
  const need = useRef(new Map<string, number>());
  const anyLate = useRef(false);
  for (const row of rows.slice(0, 200)) {
    for (const c of props.columns) need.current.set(c.id, Math.max(need.current.get(c.id) ?? 0, widthOf(c, c.text(row, props.names))));
    anyLate.current ||= isLate(row);
  }
  const time = anyLate.current ? TIME.late : TIME.usual;
  const { columns, left } = fit(props.columns, width, time, need.current);
  const leftOut = left.map((c) => c.id).join();
  useEffect(() => latest.current.onLeft(left), [leftOut]);
  const shape = columns.map(({ column, width: w }) => `${column.id}${w}`).join();
  const shownColumns = useMemo(() => columns.map((c) => c.column), [shape]);
  const folded = useMemo(() => left.filter((c) => c.id !== 'actor_id' && c.id !== 'latency_us'), [leftOut]);
  const heads = (before: boolean) =>
    columns
      .filter(({ column }) => (column.before ?? false) === before)
      .map(({ column, width: w }) => (
        <th key={column.id} scope="col" class={column.className.replace(/mono|tone-bad/g, '')} style={{ width: `${w}px` }}>
          {column.label}
        </th>
      ));
  const from = Math.min(range.from, Math.max(0, rows.length - 1));
  const to = Math.min(range.to, rows.length);
  // Rows are in order, so the first and the last day tell whether days mix.
  const days = [rows[0], rows[rows.length - 1]].map((r) => r && timeParts(r.occurred_at).date);
  const mixed = days[0] !== days[1] || (days[0] !== undefined && days[0] !== isoShown(props.now).slice(0, 10));
  return (
    <div class="log-wrap" ref={wrap}>
      <table class={mixed ? 'log mixed-days' : 'log'} aria-rowcount={props.complete ? rows.length + 1 : -1} aria-label="Calls">
        <thead>
          <tr aria-rowindex={1}>
            <th scope="col" class="c-time" style={width > NARROW ? { width: `${time}px` } : {}} aria-sort={props.ascending ? 'ascending' : 'descending'}>
              <button type="button" class="sort" onClick={props.onOrder} title="Newest or oldest first">
                Time ({zoneName(props.now)}) <span aria-hidden="true">{props.ascending ? '↑' : '↓'}</span>
              </button>
            </th>
            {heads(true)}
            <th scope="col" class="c-route">
              Route
            </th>
            <th scope="col" class="c-status">
              Status
            </th>
            {heads(false)}
          </tr>
        </thead>
        <tbody ref={body}>
          <tr class="spacer" aria-hidden="true" style={{ height: `${from * height}px` }} />
          {rows.slice(from, to).map((row, i) => (
            <LogRow
              key={row.id}
              row={row}
              index={from + i + 2}
              names={props.names}
              actor={props.names.get(row.actor_id)}
              columns={shownColumns}
              folded={folded}
              age={ago(parseTime(row.occurred_at) ?? props.now, props.now)}
              current={props.cursor === row.id || (props.cursor === null && from + i === 0)}
              marked={props.cursor === row.id}
              open={props.open === row.id}
              fresh={props.fresh.has(row.id)}
              rowHref={props.rowHref}
              onOpen={props.onOpen}
            />
          ))}
          <tr class="spacer" aria-hidden="true" style={{ height: `${Math.max(0, rows.length - to) * height}px` }} />
        </tbody>
      </table>
    </div>
  );
}

/** Whether a row was recorded long after it arrived: it was still running meanwhile, or was interrupted. */
function isLate(row: Row): boolean {
  return (parseTime(row.recorded_at) ?? 0) - (parseTime(row.occurred_at) ?? 0) > 5000 + (row.latency_us ?? 0) / 1000;
}

interface RowProps {
  row: Row;
  index: number;
  names: ReadonlyMap<string, string>;
  actor: string | undefined;
  columns: Column[];
  /** those of the second line, where a row has two */
  folded: Column[];
  age: string;
  /** Tab stops here */
  current: boolean;
  marked: boolean;
  open: boolean;
  fresh: boolean;
  rowHref: string;
  onOpen: (row: Row) => void;
}

class LogRow extends Component<RowProps> {
  override shouldComponentUpdate(next: RowProps): boolean {
    const p = this.props;
    return (
      p.row !== next.row ||
      p.index !== next.index ||
      p.actor !== next.actor ||
      p.columns !== next.columns ||
      p.folded !== next.folded ||
      p.age !== next.age ||
      p.current !== next.current ||
      p.marked !== next.marked ||
      p.open !== next.open ||
      p.fresh !== next.fresh ||
      p.rowHref !== next.rowHref ||
      p.onOpen !== next.onOpen
    );
  }

  render({ row, index, names, actor, columns, folded, age, current, marked, open, fresh, rowHref, onOpen }: RowProps) {
    const { date, clock } = timeParts(row.occurred_at);
    const { method, path } = splitRoute(row.route);
    const params = Object.values(row.path_params ?? {});
    const late = isLate(row);
    const cells = (before: boolean) =>
      columns
        .filter((c) => (c.before ?? false) === before)
        .map((c) => {
          const text = c.text(row, names);
          return (
            <td key={c.id} class={c.className} title={c.tip?.(row) ?? (text || undefined)}>
              {c.cell ? c.cell(row, text) : <span class="ellipsis">{text || '–'}</span>}
            </td>
          );
        });
    return (
      <tr
        class={`${marked ? 'marked' : ''} ${open ? 'open' : ''} ${fresh ? 'fresh' : ''}`}
        aria-rowindex={index}
        aria-current={open ? 'true' : undefined}
        data-id={row.id}
        onClick={(event) => {
          if (event.ctrlKey || event.metaKey || event.shiftKey || getSelection()?.toString()) return;
          event.preventDefault();
          onOpen(row);
        }}
      >
        <td class="c-time" title={`Arrived ${row.occurred_at}, recorded ${row.recorded_at}`}>
          <span class="t-date">{date} </span>
          <span class="t-clock">{clock}</span>
          <span class="t-ago">
            {late && (
              <span class="t-late" title="Recorded long after it arrived">
                late
              </span>
            )}
            {age}
          </span>
        </td>
        {cells(true)}
        <td class="c-route">
          <a class="route" href={rowHref + row.id} tabIndex={current ? 0 : -1} title={row.reason ? `${row.route}\nReason: ${row.reason}` : row.route}>
            <span class={`method m-${method.toLowerCase()}`}>{method}</span> {path}
          </a>
          {params.length > 0 && <span class="params mono">{params.join(' · ')}</span>}
          {row.error_code && !columns.some((c) => c.id === 'error_code') && <span class="params tone-bad">{row.error_code}</span>}
          <span class="sub">
            {actor ?? row.actor_id} · <Latency us={row.latency_us} />
            {folded
              .map((c) => c.text(row, names))
              .filter(Boolean)
              .map((text) => ` · ${text}`)
              .join('')}
          </span>
        </td>
        <td class="c-status">
          <Status status={row.status} />
        </td>
        {cells(false)}
      </tr>
    );
  }
}
