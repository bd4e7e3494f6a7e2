import { useEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { useStore } from '../lib/store';
import { colour, themeChanges } from '../lib/theme';
import { isoShown, zone } from '../lib/time';

export interface PlotSeries {
  label: string;
  /** the name of a colour of the theme */
  colour: string;
  /** bars, or a line */
  bars?: boolean;
  fill?: boolean;
  dash?: number[];
}

interface Props {
  label: string;
  height: number;
  /** seconds since 1970, then a column per series */
  data: (number | null)[][];
  series: PlotSeries[];
  /** the window shown, in seconds */
  from: number;
  to: number;
  format: (value: number) => string;
  /** charts with the same key share their cursor */
  sync?: string;
  /** the smallest top of the scale */
  floor?: number;
  /** a range that stays marked, in seconds */
  region?: [number, number] | null;
  /** moments that are marked, in seconds, with a word */
  marks?: { at: number; label: string }[];
  /** what a point says, for those who choose it by keyboard */
  say?: (index: number) => string;
  onCursor?: (index: number | null) => void;
  onPick?: (index: number) => void;
  onSelect?: (from: number, to: number) => void;
}

const FONT = '11px system-ui, sans-serif';
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** Labels of a time axis in the zone shown: the date where a day begins, else the clock. */
function timeLabels(_: uPlot, splits: number[], __: number, ___: number, step: number): string[] {
  let day = '';
  return splits.map((s) => {
    const iso = isoShown(s * 1000);
    const date = `${Number(iso.slice(8, 10))} ${MONTHS[Number(iso.slice(5, 7)) - 1]}`;
    if (step >= 86_400) return date;
    const first = day !== '' && iso.slice(0, 10) !== day;
    day = iso.slice(0, 10);
    if (first) return date;
    return step < 60 ? iso.slice(11, 19) : iso.slice(11, 16);
  });
}

/** Draws the range that stays marked, below the lines. */
function drawRegion(u: uPlot, region: [number, number] | null | undefined): void {
  if (!region) return;
  const x = (at: number) => Math.round(Math.max(u.bbox.left, Math.min(u.bbox.left + u.bbox.width, u.valToPos(at, 'x', true))));
  const [left, right] = [x(region[0]), x(region[1])];
  if (right <= left) return;
  const { ctx } = u;
  ctx.save();
  ctx.fillStyle = ctx.strokeStyle = colour('accent');
  ctx.globalAlpha = 0.16;
  ctx.fillRect(left, u.bbox.top, right - left, u.bbox.height);
  ctx.globalAlpha = 1;
  ctx.lineWidth = 2 * devicePixelRatio;
  ctx.beginPath();
  for (const at of [left, right]) {
    ctx.moveTo(at, u.bbox.top);
    ctx.lineTo(at, u.bbox.top + u.bbox.height);
  }
  ctx.stroke();
  ctx.restore();
}

/** Draws a line and a word at each moment that is marked. */
function drawMarks(u: uPlot, marks: { at: number; label: string }[] | undefined): void {
  const { ctx } = u;
  for (const mark of marks ?? []) {
    const x = Math.round(u.valToPos(mark.at, 'x', true));
    if (x < u.bbox.left - 1 || x > u.bbox.left + u.bbox.width) continue;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = colour('bad');
    ctx.lineWidth = 2 * devicePixelRatio;
    ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(x, u.bbox.top);
    ctx.lineTo(x, u.bbox.top + u.bbox.height);
    ctx.stroke();
    ctx.font = FONT.replace(/^\d+/, (n) => String(Number(n) * devicePixelRatio));
    ctx.textBaseline = 'top';
    const room = u.bbox.left + u.bbox.width - x;
    const wide = ctx.measureText(mark.label).width + 8 * devicePixelRatio > room;
    ctx.textAlign = wide ? 'right' : 'left';
    ctx.fillText(mark.label, x + (wide ? -4 : 4) * devicePixelRatio, u.bbox.top);
    ctx.restore();
  }
}

/**
 * A chart over time. It draws on a canvas, so the label must say what it shows. A chart from which a range can be chosen takes
 * the focus: arrows move from point to point, with Shift they choose a range, Enter takes it, Escape lets it go.
 */
export function Plot(props: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const latest = useRef(props);
  latest.current = props;
  const theme = useStore(themeChanges);
  const shape = props.series.map((s) => s.label).join('|');

  useEffect(() => {
    const element = box.current!;
    const axis = { stroke: colour('muted'), font: FONT, ticks: { show: false } };
    const options: uPlot.Options = {
      width: Math.max(50, element.clientWidth),
      height: props.height,
      tzDate: (ts) => (zone.get() === 'local' ? new Date(ts * 1000) : uPlot.tzDate(new Date(ts * 1000), 'Etc/UTC')),
      legend: { show: false },
      padding: [8, 16, 0, 0],
      cursor: {
        y: false,
        points: { show: props.series.some((s) => !s.bars), size: 7 },
        drag: { x: props.onSelect !== undefined, y: false, setScale: false },
        ...(props.sync && { sync: { key: props.sync, filters: { pub: (type: string) => type !== 'mousedown' && type !== 'mouseup' } } }),
      },
      scales: {
        x: { time: true, range: () => [latest.current.from, latest.current.to] },
        y: { range: (_, __, max) => [0, Math.max(latest.current.floor ?? 0, (max || 0) * 1.05) || 1] },
      },
      axes: [
        { ...axis, grid: { show: false }, values: timeLabels, space: 70, size: 24, gap: 4 },
        {
          ...axis,
          grid: { stroke: colour('line'), width: 1 },
          values: (_, values) => values.map((v) => latest.current.format(v)),
          size: 56,
          space: 28,
          gap: 6,
        },
      ],
      series: [
        {},
        ...props.series.map((s): uPlot.Series => {
          const paint = colour(s.colour);
          if (s.bars) {
            return { stroke: paint, fill: paint, width: 0, points: { show: false }, paths: uPlot.paths.bars!({ size: [0.82, 48], align: 1 }) };
          }
          return {
            stroke: paint,
            width: 1.5,
            spanGaps: false,
            points: { size: 4, fill: paint, width: 0 },
            ...(s.fill && { fill: `${paint}22` }),
            ...(s.dash && { dash: s.dash }),
          };
        }),
      ],
      hooks: {
        setCursor: [(u) => latest.current.onCursor?.(u.cursor.idx ?? null)],
        drawClear: [(u) => drawRegion(u, latest.current.region)],
        draw: [(u) => drawMarks(u, latest.current.marks)],
        setSelect: [
          (u) => {
            const { left, width } = u.select;
            if (width < 4) return;
            const from = u.posToVal(left, 'x');
            const to = u.posToVal(left + width, 'x');
            u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
            latest.current.onSelect?.(from, to);
          },
        ],
      },
    };
    const u = new uPlot(options, latest.current.data as uPlot.AlignedData, element);
    plot.current = u;
    let downAt = 0;
    const down = (event: MouseEvent) => (downAt = event.clientX);
    const click = (event: MouseEvent) => {
      const index = u.cursor.idx;
      if (Math.abs(event.clientX - downAt) < 4 && index !== null && index !== undefined) latest.current.onPick?.(index);
    };
    u.over.addEventListener('mousedown', down);
    u.over.addEventListener('click', click);
    const resize = new ResizeObserver(() => {
      if (element.clientWidth > 0 && element.clientWidth !== u.width) u.setSize({ width: element.clientWidth, height: latest.current.height });
    });
    resize.observe(element);
    return () => {
      resize.disconnect();
      u.destroy();
    };
  }, [theme, shape, props.height]);

  useEffect(() => {
    plot.current?.setData(props.data as uPlot.AlignedData);
  }, [props.data, props.from, props.to]);

  const marked = `${props.region} ${props.marks?.map((m) => m.at)}`;
  useEffect(() => {
    plot.current?.redraw(false);
  }, [marked]);

  const times = props.data[0] ?? [];
  const last = times.length - 1;
  const [point, setPoint] = useState<number | null>(null);
  const anchor = useRef<number | null>(null);
  const width = last > 0 ? times[1]! - times[0]! : 60;
  const range = (to: number): [number, number] => {
    const from = anchor.current ?? to;
    return [times[Math.min(from, to)]!, times[Math.max(from, to)]! + width];
  };
  const letGo = () => {
    anchor.current = null;
    plot.current?.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  };
  const key = (event: KeyboardEvent) => {
    const u = plot.current;
    if (!u || last < 0) return;
    const at = Math.min(point ?? last, last);
    const steps: Record<string, number> = { ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at - 10, PageDown: at + 10, Home: 0, End: last };
    const to = steps[event.key];
    if (to !== undefined) {
      const next = Math.max(0, Math.min(last, point === null && event.key.startsWith('Arrow') ? last : to));
      if (event.shiftKey) anchor.current ??= at;
      else letGo();
      setPoint(next);
      u.setCursor({ left: u.valToPos(times[next]!, 'x'), top: 0 });
      if (event.shiftKey) {
        const [from, until] = range(next).map((s) => Math.max(0, Math.min(u.over.clientWidth, u.valToPos(s, 'x'))));
        u.setSelect({ left: from!, width: until! - from!, top: 0, height: u.over.clientHeight }, false);
      }
    } else if (event.key === 'Enter' && point !== null) {
      if (anchor.current === null) props.onPick?.(point);
      else props.onSelect?.(...range(point));
      letGo();
    } else if (event.key === 'Escape' && anchor.current !== null) {
      letGo();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  };
  if (!props.onSelect) return <div ref={box} class="plot" role="img" aria-label={props.label} data-height={props.height} />;
  const now = Math.min(point ?? last, last);
  const said = anchor.current === null || point === null ? '' : `${Math.abs(point - anchor.current) + 1} points chosen. `;
  return (
    <div
      ref={box}
      class={`plot choosable ${props.onPick ? 'pickable' : ''}`}
      role="slider"
      tabIndex={0}
      aria-label={props.label}
      aria-valuemin={0}
      aria-valuemax={Math.max(0, last)}
      aria-valuenow={Math.max(0, now)}
      aria-valuetext={now < 0 ? 'no points' : `${said}${props.say?.(now) ?? new Date(times[now]! * 1000).toISOString()}`}
      title="Drag to choose a range. By keyboard: arrows, with Shift to choose, Enter to take it."
      data-height={props.height}
      onKeyDown={key}
      onBlur={() => {
        letGo();
        if (point !== null) props.onCursor?.(null);
      }}
    />
  );
}

/** Calls as bars and a latency as a line, without axes, as wide as a word. A start is marked. */
export function Sparkline({ calls, values, start, label }: { calls: number[]; values: (number | null)[]; start?: number | null; label: string }) {
  const width = 96;
  const height = 22;
  const most = Math.max(...calls, 1);
  const known = values.filter((v): v is number => v !== null);
  if (calls.length < 2) return <svg class="spark" width={width} height={height} aria-hidden="true" />;
  const top = Math.max(...known) || 1;
  const x = (i: number) => (i / (values.length - 1)) * (width - 2) + 1;
  const y = (v: number) => height - 2 - (v / top) * (height - 4);
  let path = '';
  let pen = false;
  values.forEach((v, i) => {
    if (v === null) {
      pen = false;
      return;
    }
    path += `${pen ? 'L' : 'M'}${x(i).toFixed(1)} ${y(v).toFixed(1)}`;
    if (!pen && (values[i + 1] ?? null) === null) path += 'h0.1'; // a point by itself, which the round ends of a line make visible
    pen = true;
  });
  return (
    <svg class="spark" width={width} height={height} role="img" aria-label={label}>
      <g class="spark-calls">
        {calls.map((n, i) => {
          const tall = (n / most) * (height - 4);
          return n > 0 && <rect key={i} x={x(i) - 1} y={height - tall} width={Math.max(1, width / calls.length - 1)} height={tall} />;
        })}
      </g>
      {start !== null && start !== undefined && <line class="spark-start" x1={x(start)} x2={x(start)} y1="0" y2={height} />}
      <path d={path} />
    </svg>
  );
}
