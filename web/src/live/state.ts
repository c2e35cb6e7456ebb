// Everything that the server tells as it changes.
import { batch, computed, signal, type Signal } from '@preact/signals';
import type { Engine, Happened, Picture, Stream, Totals, Viewer, Vpn, Watched } from '../types';
import { Table } from './table';

export const streams = new Table<Stream>();
export const engines = new Table<Engine>();
export const vpns = new Table<Vpn>();
const NOTHING: Totals = {
  streams: 0, viewers: 0, waiting: 0, bytes_in: 0, bytes_out: 0, engines: 0, engines_healthy: 0, slots_used: 0, slots_total: 0, slots_waiting: 0,
  buffer_bytes: 0, buffer_limit_bytes: 0,
};
export const totals = signal<Totals>(NOTHING);

/** Most events that are kept here. */
const KEPT = 300;
/** What has happened, the newest first. */
export const happened = signal<readonly Happened[]>([]);

/** A tick of the page's own clock, once a second: for what is told as "18 min". */
export const now = signal(Date.now());
/** When news came last; 0 before the first. */
export const heard = signal(0);
/** After so long without news what is shown may not be true any more. */
export const STALE_MS = 5_000;
export const silence = computed(() => (heard.value === 0 ? 0 : Math.max(0, now.value - heard.value)));
export const isFrozen = computed(() => silence.value >= STALE_MS);
/** Counts pictures: each is a connection anew, and what was known of the session may be over. */
export const pictures = signal(0);
/** Whether anything was heard. */
export const isKnown = computed(() => heard.value > 0);

/** Bit rates of the whole service, of the last seconds. */
export const rates = signal<{ in: number; out: number } | null>(null);
let last: { at: number; in: number; out: number } | null = null;

/** Bit rates of each stream, a point a second, for its sparkline. */
export const SPARK = 60;
const sparks = new Map<string, Signal<readonly number[]>>();
export function spark(id: string): Signal<readonly number[]> {
  let known = sparks.get(id);
  if (!known) sparks.set(id, (known = signal<readonly number[]>([])));
  return known;
}

export interface Patch {
  streams?: Record<string, Partial<Stream> | null>; engines?: Record<string, Partial<Engine> | null>; vpns?: Record<string, Partial<Vpn> | null>;
  totals?: Partial<Totals>;
}
export type News =
  /** `more`: of the same server to the same people, because more of it is asked for than before. */
  | { kind: 'snapshot'; data: Picture; more?: boolean }
  | { kind: 'patch'; data: Patch }
  | { kind: 'viewers'; data: Watched }
  | { kind: 'log'; data: Happened };

/** Who watches each stream that somebody looks at; null until it was told. */
const audiences = new Map<string, Signal<readonly Viewer[] | null>>();
export function audience(id: string): Signal<readonly Viewer[] | null> {
  let known = audiences.get(id);
  if (!known) audiences.set(id, (known = signal<readonly Viewer[] | null>(null)));
  return known;
}

export function take(news: News) {
  batch(() => {
    heard.value = now.value = Date.now();
    if (news.kind === 'log') return happen(news.data);
    if (news.kind === 'viewers') return gather(news.data);
    if (news.kind === 'snapshot') {
      streams.replace(news.data.streams);
      engines.replace(news.data.engines);
      vpns.replace(news.data.vpns);
      totals.value = news.data.totals;
      if (news.more) return;
      pictures.value += 1;
      last = null;
    } else {
      const { data } = news;
      if (data.streams) streams.patch(data.streams);
      if (data.engines) engines.patch(data.engines);
      if (data.vpns) vpns.patch(data.vpns);
      if (data.totals && Object.keys(data.totals).length) totals.value = { ...totals.value, ...data.totals };
      measure();
    }
  });
}

/** Between two patches: only those come once a second. */
function measure() {
  const at = performance.now();
  const { bytes_in, bytes_out } = totals.peek();
  const seconds = last ? (at - last.at) / 1000 : 0;
  if (last && seconds > 0.2) {
    const per = (nowBytes: number, then: number) => Math.max(0, ((nowBytes - then) * 8) / seconds);
    const fresh = { in: per(bytes_in, last.in), out: per(bytes_out, last.out) };
    const old = rates.peek();
    // Media comes in bursts: half of what was known stays.
    rates.value = old ? { in: (old.in + fresh.in) / 2, out: (old.out + fresh.out) / 2 } : fresh;
  }
  last = { at, in: bytes_in, out: bytes_out };
  for (const stream of streams.all.peek()) {
    const points = spark(stream.id);
    points.value = [...points.peek().slice(1 - SPARK), stream.peek('arriving_bps') ?? 0];
  }
  for (const kept of [sparks, audiences]) for (const id of kept.keys()) if (!streams.has(id)) kept.delete(id);
}

/** The stream is told by its key, which is the infohash or has the id at its end. */
function gather({ stream, viewers }: Watched) {
  const found = streams.all.peek().find((one) => one.peek('infohash') === stream || stream.endsWith(one.id));
  if (found) audience(found.id).value = viewers;
}

/** The same for an event that has just come, which has no number yet, and for the one that the history has. */
export const keyOf = (event: Happened) => [event.timestamp, event.category, event.stream_id, event.container_id, event.message].join('|');

function happen(event: Happened) {
  const key = keyOf(event);
  if (happened.peek().some((known) => keyOf(known) === key)) return;
  happened.value = [event, ...happened.peek()].slice(0, KEPT);
}

/** What happened before this page was opened. */
export function remember(events: readonly Happened[]) {
  const known = new Set(happened.peek().map(keyOf));
  const older = events.filter((event) => !known.has(keyOf(event)));
  happened.value = [...happened.peek(), ...older].sort((one, other) => other.timestamp.localeCompare(one.timestamp)).slice(0, KEPT);
}

export function picture(): Picture {
  return { streams: streams.plain(), engines: engines.plain(), vpns: vpns.plain(), totals: totals.peek() };
}
