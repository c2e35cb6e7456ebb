// What happened, in words and in figures.
import { useEffect, useRef, useState } from 'preact/hooks';
import { get } from '../call';
import { happened, keyOf } from '../live/state';
import { streamName } from '../names';
import { Button, Icon, When } from '../parts/basics';
import { lazyCharts } from '../parts/chart';
import { sentence } from '../problems';
import type { Happened } from '../types';
import { words } from '../words';
import { mark } from './now';

const own = words.history;
const Charts = lazyCharts();
const SPANS = ['minutes', 'hours', 'days'] as const;
const PAGE = 100;
/** What operators have changed: a category of the service's events, and a kind of its own to people. */
const AUDIT = 'audit';
const kindOf = (event: Happened): string => (event.category === AUDIT ? AUDIT : event.event_type);

export function History() {
  const [span, setSpan] = useState<(typeof SPANS)[number]>('hours');
  return (
    <>
      <h1>{own.title}</h1>
      <section aria-labelledby="charts-title">
        <header class="section-head">
          <h2 id="charts-title">{own.charts}</h2>
          <span class="buttons" role="group" aria-label={own.charts}>
            {SPANS.map((one) => <Button key={one} kind="toggle" pressed={one === span} onClick={() => setSpan(one)}>{own.span[one]}</Button>)}
          </span>
        </header>
        <Charts key={span} span={span} />
      </section>
      <Events />
    </>
  );
}

/** What was said of an event, with the names that people know, for the field that finds. */
const said = (event: Happened) => `${event.message} ${event.category} ${event.stream_id ?? ''} ${streamName(event.stream_id)} ${event.container_id ?? ''}`.toLowerCase();

function Events() {
  const [kind, setKind] = useState('');
  const [find, setFind] = useState('');
  const [from, setFrom] = useState('');
  const [older, setOlder] = useState<Happened[]>([]);
  const [isEnd, setIsEnd] = useState(false);
  const query = (offset: number) => `events?limit=${PAGE}&offset=${offset}${kind ? `&${kind === AUDIT ? 'category' : 'event_type'}=${kind}` : ''}${from ? `&since=${encodeURIComponent(new Date(from).toISOString())}` : ''}`;
  const asked = useRef('');
  const load = async (offset: number) => {
    const query_ = (asked.current = query(offset));
    const seen = await get<Happened[]>(query_).catch(() => []);
    // Somebody has asked for something else meanwhile.
    if (asked.current !== query_) return;
    setOlder((known) => (offset === 0 ? seen : [...known, ...seen]));
    setIsEnd(seen.length < PAGE);
  };
  useEffect(() => void load(0), [kind, from]);
  const known = new Set(older.map(keyOf));
  const newest = older[0]?.timestamp ?? '';
  // What has happened since has no number yet.
  const fresh = happened.value.filter((event) => event.timestamp >= newest && !known.has(keyOf(event)) && (!kind || kindOf(event) === kind) && (!from || Date.parse(event.timestamp) >= Date.parse(from)));
  const wanted = find.trim().toLowerCase();
  const shown = [...fresh, ...older].filter((event) => !wanted || said(event).includes(wanted));
  return (
    <section aria-labelledby="events-title">
      <header class="section-head">
        <h2 id="events-title">{own.events}</h2>
        <span><small>{own.count(shown.length)}</small></span>
        <label class="inline">{own.filter}
          <select value={kind} onChange={(event) => setKind(event.currentTarget.value)}>
            <option value="">{own.all}</option>
            {Object.entries(own.kinds).map(([value, word]) => <option key={value} value={value}>{word}</option>)}
          </select>
        </label>
        <label class="inline">{own.from} <input type="datetime-local" value={from} onChange={(event) => setFrom(event.currentTarget.value)} /></label>
        <label class="find"><Icon name="find" /><span class="offscreen">{own.find}</span><input data-find type="search" placeholder={`${words.header.find}  /`} value={find} onInput={(event) => setFind(event.currentTarget.value)} /></label>
      </header>
      {shown.length === 0 && <p class="empty">{own.none}</p>}
      <ol class="timeline events">
        {shown.map((event) => (
          <li key={keyOf(event)} class={`is-${mark(event)}`} data-row>
            <Icon name={mark(event)} /><When at={event.timestamp} />
            <span class="kind">{own.kinds[kindOf(event)] ?? kindOf(event)}</span>
            <span class="what" tabIndex={-1} data-row-button>{event.stream_id && <b title={event.stream_id}>{streamName(event.stream_id)}: </b>}{sentence(event)}</span>
          </li>
        ))}
      </ol>
      {!isEnd && older.length > 0 && <Button onClick={() => void load(older.length)}>{own.more}</Button>}
    </section>
  );
}
