import { useEffect, useRef } from 'preact/hooks';
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

/** A chart over time. It draws on a canvas, so the label must say what it shows. */
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

  return <div ref={box} class={`plot ${props.onPick ? 'pickable' : ''}`} role="img" aria-label={props.label} data-height={props.height} />;
}

/** A line without axes, as wide as a word. */
export function Sparkline({ values, label }: { values: (number | null)[]; label: string }) {
  const width = 96;
  const height = 22;
  const known = values.filter((v): v is number => v !== null);
  if (known.length < 2) return <svg class="spark" width={width} height={height} aria-hidden="true" />;
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
    pen = true;
  });
  return (
    <svg class="spark" width={width} height={height} role="img" aria-label={label}>
      <path d={path} />
    </svg>
  );
}
