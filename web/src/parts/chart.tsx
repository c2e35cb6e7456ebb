// The two charts. uPlot comes when the first of them is shown.
import { useEffect, useRef, useState } from 'preact/hooks';
import type uPlot from 'uplot';
import { get } from '../call';
import { clock } from '../format';
import { happened } from '../live/state';
import type { Figure, HistoryPage } from '../types';
import { loaded } from '../version';
import { words } from '../words';

type Span = 'minutes' | 'hours' | 'days';
const EVERY_MS: Record<Span, number> = { minutes: 2_000, hours: 10_000, days: 60_000 };
const SPAN_S: Record<Span, number> = { minutes: 300, hours: 7_200, days: 7 * 86_400 };
const MBIT = 8 / 1e6;

/** Charts of one span of the service, or of one stream. */
export function lazyCharts() {
  return Charts;
}

function Charts({ span, stream, compact = false }: { span: Span; stream?: string; compact?: boolean }) {
  const [page, setPage] = useState<HistoryPage | null>(null);
  useEffect(() => {
    let isOver = false;
    const query = `history?span=${span}${stream ? `&stream=${encodeURIComponent(stream)}` : ''}`;
    const ask = () => void get<HistoryPage>(query).then((seen) => !isOver && setPage(seen), () => {});
    ask();
    const timer = setInterval(() => document.visibilityState === 'visible' && ask(), EVERY_MS[span]);
    return () => {
      isOver = true;
      clearInterval(timer);
    };
  }, [span, stream]);
  if (!page) return <p class="empty">…</p>;
  if (page.points.length < 2) return <p class="empty">{words.history.noFigures}</p>;
  const mean = (figure: Figure | undefined) => figure?.mean ?? 0;
  const at = page.points.map((point) => Date.parse(point.at) / 1000);
  const [viewers, out, into] = [
    page.points.map((point) => mean(point.viewers)),
    page.points.map((point) => mean(point.bytes_out_per_second) * MBIT),
    page.points.map((point) => mean(point.bytes_in_per_second) * MBIT),
  ];
  const gaps = (values: number[]) => withGaps(at, values, page.step_seconds);
  return (
    <div class="charts">
      <Chart title={words.history.viewers} data={gaps(viewers)} names={[words.history.viewers]} whole span={span} compact={compact} stream={stream} />
      <Chart title={words.history.rate} data={merge(gaps(out), gaps(into))} names={[words.history.out, words.history.in]} span={span} compact={compact} stream={stream} />
      {!compact && <Figures page={page} />}
    </div>
  );
}

type Data = [number[], ...(number | null)[][]];

/** Steps of which nothing is known have no point: there the line ends. */
function withGaps(at: number[], values: number[], step: number): Data {
  const [x, y]: [number[], (number | null)[]] = [[], []];
  at.forEach((moment, index) => {
    const before = at[index - 1];
    if (before !== undefined && moment - before > step * 2.5) {
      x.push(before + step, moment - step);
      y.push(null, null);
    }
    x.push(moment);
    y.push(values[index] ?? null);
  });
  return [x, y];
}

const merge = ([x, y]: Data, other: Data): Data => [x, y ?? [], other[1] ?? []];

const hour = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const day = new Intl.DateTimeFormat(undefined, { weekday: 'short', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const second = new Intl.DateTimeFormat(undefined, { minute: '2-digit', second: '2-digit' });
const tick = (moment: number, span: Span) => ({ minutes: second, hours: hour, days: day })[span].format(moment * 1000);

/** As the page has it at this moment: a custom property alone would be what is written, not what it means. */
function colour(name: string, share = 1): string {
  const probe = document.body.appendChild(document.createElement('i'));
  probe.style.color = `var(${name})`;
  const { color } = getComputedStyle(probe);
  probe.remove();
  return share === 1 ? color : color.replace(/^rgb\((.*)\)$/, `rgba($1, ${share})`);
}
const dark = matchMedia('(prefers-color-scheme: dark)');

function Chart({ title, data, names, whole = false, span, compact, stream }: {
  title: string; data: Data; names: string[]; whole?: boolean; span: Span; compact: boolean; stream: string | undefined;
}) {
  const frame = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const newest = useRef(data);
  newest.current = data;
  useEffect(() => {
    let isOver = false;
    let watching: ResizeObserver | undefined;
    const again = () => plot.current?.redraw(false);
    dark.addEventListener('change', again);
    const themed = new MutationObserver(again);
    themed.observe(document.documentElement, { attributeFilter: ['data-theme'] });
    const element = frame.current;
    void loaded(import('./uplot')).then(({ default: Plot }) => {
      if (isOver || !element) return;
      const colours = ['--accent', '--second'];
      const height = compact ? 140 : 200;
      const axis = { stroke: () => colour('--soft'), grid: { stroke: () => colour('--line'), width: 1 }, ticks: { show: false }, font: '12px system-ui' };
      plot.current = new Plot(
        {
          width: element.clientWidth, height, cursor: { sync: { key: 'acemux' }, y: false }, legend: { show: !compact, live: true },
          scales: { x: { range: (_: unknown, least: number, most: number) => [Math.max(most - SPAN_S[span], Math.min(least, most - SPAN_S[span] / 12)), most] }, y: { range: (_: unknown, __: number, most: number) => [0, Math.max(whole ? 4 : 1, most * 1.15)] } },
          axes: [{ ...axis, size: 30, values: (_: unknown, moments: number[]) => moments.map((moment) => tick(moment, span)) }, { ...axis, size: 44, ...(whole ? { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] } : {}) }],
          hooks: { draw: [(drawn: uPlot) => markHealed(drawn, stream)] },
          series: [
            { label: words.history.when, value: (_: unknown, moment: number | null) => (moment == null ? '–' : clock(new Date(moment * 1000).toISOString())) },
            ...names.map((label, at) => ({
              label, stroke: () => colour(colours[at] ?? ''), width: 2, points: { show: false }, ...(at === 0 ? { fill: () => colour('--accent', 0.18) } : { dash: [5, 4] }),
              value: (_: unknown, value: number | null) => (value == null ? '–' : whole ? String(Math.round(value)) : value.toFixed(1)),
            })),
          ],
        },
        newest.current as uPlot.AlignedData, element,
      );
      watching = new ResizeObserver(() => element.clientWidth && plot.current?.setSize({ width: element.clientWidth, height }));
      watching.observe(element);
    }, () => {});
    return () => {
      isOver = true;
      dark.removeEventListener('change', again);
      themed.disconnect();
      watching?.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [compact, span, stream]);
  useEffect(() => plot.current?.setData(data as uPlot.AlignedData), [data]);
  const last = data[1]?.at(-1);
  const label = `${title}: ${last == null ? '–' : whole ? Math.round(last) : last.toFixed(1)}`;
  return <figure><figcaption>{title}{names.length > 1 && <small> {names.map((name, at) => <span key={name} class={`key-${at}`}>{name}</span>)}</small>}</figcaption><div ref={frame} class="chart" role="img" aria-label={label} /></figure>;
}

/** A diamond at the top wherever a stream was healed; the events beside the charts say it in words. */
function markHealed(plot: uPlot, stream: string | undefined) {
  const { min, max } = plot.scales.x ?? {};
  if (min == null || max == null) return;
  const { ctx, bbox } = plot;
  const half = 5 * devicePixelRatio;
  ctx.save();
  ctx.fillStyle = colour('--heal');
  for (const event of happened.peek()) {
    const at = Date.parse(event.timestamp) / 1000;
    if (event.category !== 'recovered' || event.event_type !== 'stream' || at < min || at > max || (stream && event.stream_id !== stream)) continue;
    const [x, y] = [plot.valToPos(at, 'x', true), bbox.top + half];
    ctx.beginPath();
    for (const [right, down] of [[0, -half], [half, 0], [0, half], [-half, 0]] as const) ctx.lineTo(x + right, y + down);
    ctx.fill();
  }
  ctx.restore();
}

/** The same for who cannot see the lines: at most so many rows. */
function Figures({ page }: { page: HistoryPage }) {
  const every = Math.max(1, Math.ceil(page.points.length / 24));
  const rows = page.points.filter((_, at) => at % every === 0);
  return (
    <details>
      <summary>{words.history.asTable}</summary>
      <table>
        <thead><tr><th scope="col">{words.history.when}</th><th scope="col">{words.history.viewers}</th><th scope="col">{words.history.out} {words.history.rate}</th><th scope="col">{words.history.in} {words.history.rate}</th></tr></thead>
        <tbody>
          {rows.map((point) => (
            <tr key={point.at}><td>{clock(point.at)}</td><td>{Math.round(point.viewers?.mean ?? 0)}</td><td>{((point.bytes_out_per_second?.mean ?? 0) * MBIT).toFixed(1)}</td><td>{((point.bytes_in_per_second?.mean ?? 0) * MBIT).toFixed(1)}</td></tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}
