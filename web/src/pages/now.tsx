// Is anything wrong, who watches what, how much room is left.
import { signal, useComputed } from '@preact/signals';
import { lazyCharts } from '../parts/chart';
import { useEffect, useRef, useState } from 'preact/hooks';
import { drain, kick, move, stop } from '../actions';
import { idsIn, media } from '../addresses';
import { lookAtPlan, plan } from '../plan';
import { player } from '../agents';
import { brief, bytes, format, rate } from '../format';
import { lookAt } from '../live/connection';
import { audience, engines, happened, isKnown, now, spark, streams, totals, vpns } from '../live/state';
import type { Entity } from '../live/table';
import { engineName, givenName, streamName, viewerName } from '../names';
import { Button, Icon, look, Slots, Spark, State, T, When } from '../parts/basics';
import { asOperator, open, type Item } from '../parts/windows';
import { watch } from '../parts/player';
import { healed, MOST } from '../healed';
import { dismissed, problems, sentence, type Problem } from '../problems';
import { to } from '../route';
import { isOperator, type Whose } from '../session';
import { tell } from '../toast';
import type { Happened, Stream, Viewer } from '../types';
import { words } from '../words';

const wanted = signal('');
const opened = signal<string | null>(null);

export function Now() {
  return (
    <>
      <h1 class="offscreen">{words.pages.now}</h1>
      <Problems />
      <Watching />
      <Room />
      <Lately />
    </>
  );
}

function Problems() {
  if (!isKnown.value) return <section class="verdict-bar is-start" aria-busy="true"><p><Icon name="start" /> {words.header.connecting} …</p></section>;
  const all = problems.value;
  if (all.length === 0) {
    return <section class="verdict-bar is-ok" data-testid="problems"><p><Icon name="ok" /><span><strong>{words.now.allGood}</strong> {words.now.allGoodMore}</span></p></section>;
  }
  const worst = all.some((one) => one.level === 'bad') ? 'bad' : 'warn';
  return (
    <section class={`verdict-bar is-${worst}`} aria-labelledby="problems-title" data-testid="problems">
      <h2 id="problems-title"><Icon name={worst} /> {words.now.needYou(all.length)}</h2>
      <ul>{all.map((one) => <ProblemLine key={one.key} problem={one} />)}</ul>
    </section>
  );
}

function ProblemLine({ problem }: { problem: Problem }) {
  const about = problem.about ?? '';
  const dismiss = () => (dismissed.value = new Set([...dismissed.value, problem.key]));
  return (
    <li class={`problem is-${problem.level}`}>
      <Icon name={problem.level} />
      <p>{problem.text}</p>
      <span class="buttons">
        {problem.step === 'engines' && <a class="button" href={to('engines')}>{words.problem.why}</a>}
        {problem.step === 'history' && <a class="button" href={to('history')}>{words.problem.why}</a>}
        {problem.step === 'move' && <Button onClick={asOperator(() => void move(about))}>{words.problem.move}</Button>}
        {problem.step === 'drain' && <Button onClick={asOperator(() => drain(about))}>{words.problem.drain}</Button>}
        {problem.step === 'again' && <Button icon="play" onClick={() => { dismiss(); watch(about); }}>{words.problem.again}</Button>}
        {problem.dismissable && <Button kind="quiet" onClick={dismiss}>{words.problem.dismiss}</Button>}
      </span>
    </li>
  );
}

function Watching() {
  const find = wanted.value.trim().toLowerCase();
  const all = streams.all.value;
  const shown = find ? all.filter((stream) => streamName(stream.id).toLowerCase().includes(find) || stream.id.includes(find)) : all;
  return (
    <section aria-labelledby="watching-title">
      <header class="section-head">
        <h2 id="watching-title">{words.now.watching}</h2>
        {totals.value.waiting > 0 && <span>{words.now.waiting(totals.value.waiting)}</span>}
        {all.length > 0 && (
          <label class="find">
            <Icon name="find" /><span class="offscreen">{words.now.find}</span>
            <input data-find type="search" placeholder={`${words.header.find}  /`} value={wanted.value} onInput={(event) => (wanted.value = event.currentTarget.value)} />
          </label>
        )}
      </header>
      {isKnown.value && all.length === 0 && <Nobody />}
      {all.length > 0 && shown.length === 0 && <p class="empty">{words.now.noneFound}</p>}
      <ul class="streams">{shown.map((stream) => <Row key={stream.id} stream={stream} />)}</ul>
    </section>
  );
}

function Nobody() {
  const [text, setText] = useState('');
  const go = (event: Event) => {
    event.preventDefault();
    const [found] = idsIn(text);
    if (found) watch(found);
    else tell(words.paste.unknown, 'bad');
  };
  return (
    <div class="empty">
      <p>{words.now.nobody}</p>
      <form onSubmit={go} class="inline">
        <label class="offscreen" for="try">{words.help.id}</label>
        <input id="try" data-find value={text} onInput={(event) => setText(event.currentTarget.value)} placeholder="acestream://…" aria-describedby="try-hint" spellcheck={false} autocomplete="off" />
        <button class="button main" type="submit"><Icon name="play" /><span>{words.now.play}</span></button>
      </form>
      <p id="try-hint"><small>{words.now.nobodyHint}</small></p>
      <p><small>{words.now.or}</small></p>
      <pre class="address" tabIndex={0} aria-label="VLC">vlc "{media('…')}"</pre>
    </div>
  );
}

/** In one word: what is measured, but for a stream that nobody watches any more. */
const verdictOf = (stream: Entity<Stream>) => (stream.get('state') === 'lingering' ? 'lingering' : stream.get('verdict'));

function Verdict({ stream }: { stream: Entity<Stream> }) {
  const state = useComputed(() => verdictOf(stream)).value;
  return <State state={state} word={words.verdict[state] ?? state} />;
}

function Row({ stream }: { stream: Entity<Stream> }) {
  const isOpen = useComputed(() => opened.value === stream.id).value;
  const state = useComputed(() => look(verdictOf(stream))).value;
  const name = useComputed(() => streamName(stream.id)).value;
  const details = `details-${stream.id}`;
  return (
    <li class={`stream is-${state}`} data-row data-stream={stream.id}>
      <div class="stream-line">
        <button type="button" class="stream-name" data-row-button aria-expanded={isOpen} aria-controls={details} aria-label={words.stream.open(name)}
          onClick={() => (opened.value = isOpen ? null : stream.id)}>
          <Icon name="chevron" /><span title={stream.id}>{name}</span>
        </button>
        <span class="c-state"><Verdict stream={stream} /></span>
        <span class="c-viewers"><T of={() => words.stream.viewers(stream.get('client_count'))} /></span>
        <span class="c-rate"><T of={() => rate(stream.get('arriving_bps') ?? stream.get('bitrate_bps'))} /></span>
        <span class="c-format"><T of={() => format(fields(stream))} /></span>
        <span class="c-why"><T of={() => (verdictOf(stream) === 'smooth' ? '' : stream.get('verdict_reason'))} /></span>
        <span class="c-spark"><Spark points={spark(stream.id)} label={`${words.stream.arriving} ${words.history.rate}`} /></span>
        <span class="c-engine"><T of={() => where(stream)} /></span>
        <span class="c-actions"><Menu stream={stream} name={name} /></span>
      </div>
      <div id={details} class="stream-details" hidden={!isOpen}>{isOpen && <Details stream={stream} name={name} />}</div>
    </li>
  );
}

const fields = (stream: Entity<Stream>) => ({
  resolution: stream.get('resolution'), fps: stream.get('fps'), scan: stream.get('scan'), video_codec: stream.get('video_codec'), audio_codec: stream.get('audio_codec'),
});

function where(stream: Entity<Stream>): string {
  const id = stream.get('container_id');
  if (!id) return words.stream.noEngine;
  const vpn = engines.get(id)?.get('vpn_container');
  return [engineName(id), vpn].filter(Boolean).join(' · ');
}

const rename = (id: string) => (open.value = { is: 'name', of: { is: 'stream', id }, what: brief(id), now: givenName(id) });

function Menu({ stream, name }: { stream: Entity<Stream>; name: string }) {
  const { id } = stream;
  const items = (): Item[] => [
    { label: words.stream.watch, icon: 'play', run: () => watch(id) },
    { label: words.stream.copy, icon: 'chevron', run: () => (open.value = { is: 'copy', id }) },
    { label: words.stream.rename, icon: 'chevron', run: asOperator(() => rename(id)) },
    { label: words.stream.move, icon: 'chevron', run: asOperator(() => void move(id)) },
    { label: `${words.stream.stop} (${words.stream.viewers(stream.peek('client_count'))})`, icon: 'close', kind: 'danger', run: asOperator(() => stop(id)) },
  ];
  return (
    <>
      <button type="button" class="offscreen-button" data-watch tabIndex={-1} aria-hidden="true" onClick={() => watch(id)} />
      <Button icon="more" kind="quiet" label={words.stream.actions(name)} onClick={() => (open.value = { is: 'menu', title: name, items: items() })} />
    </>
  );
}

function Details({ stream, name }: { stream: Entity<Stream>; name: string }) {
  const { id } = stream;
  return (
    <>
      <div class="buttons">
        <Button icon="play" kind="main" onClick={() => watch(id)}>{words.stream.watch}</Button>
        <Button onClick={() => (open.value = { is: 'copy', id })}>{words.stream.copy}</Button>
        <Button onClick={asOperator(() => rename(id))}>{words.stream.rename}</Button>
        <Button onClick={asOperator(() => void move(id))}>{words.stream.move}</Button>
        <Button kind="danger" onClick={asOperator(() => stop(id))}>{words.stream.stop}</Button>
      </div>
      <dl class="facts">
        <div><dt>{words.stream.format}</dt><dd><T of={() => format(fields(stream)) || '–'} /></dd></div>
        <div><dt>{words.stream.arriving} / {words.stream.sending}</dt><dd><T of={() => rate(stream.get('arriving_bps'))} /> / <Sending stream={stream} /></dd></div>
        <div><dt>{words.stream.swarm}</dt><dd><T of={() => [stream.get('peers') == null ? '' : words.stream.peers(stream.get('peers') ?? 0), stream.get('runway_seconds') == null ? '' : words.stream.reserve(stream.get('runway_seconds') ?? 0)].filter(Boolean).join(', ') || '–'} /></dd></div>
        <div><dt>{words.stream.engine}</dt><dd><T of={() => where(stream)} /></dd></div>
        <div><dt>id</dt><dd class="id">{id}</dd></div>
      </dl>
      <h3>{words.stream.who}</h3>
      <Viewers id={id} name={name} />
      <h3>{words.stream.what}</h3>
      <Timeline of={(event) => event.stream_id === id || event.stream_id === stream.get('infohash')} most={12} />
    </>
  );
}

/** How fast it goes out, between two looks. */
function Sending({ stream }: { stream: Entity<Stream> }) {
  const last = useRef<{ at: number; bytes: number; rate: number | null }>({ at: 0, bytes: 0, rate: null });
  const text = () => {
    const [at, sent] = [now.value, stream.get('bytes_sent')];
    const { at: then, bytes: before, rate: old } = last.current;
    const seconds = (at - then) / 1000;
    if (then > 0 && seconds < 0.8) return rate(old);
    const fresh = then > 0 && sent >= before ? ((sent - before) * 8) / seconds : null;
    // Media goes out in bursts: half of what was known stays.
    last.current = { at, bytes: sent, rate: old !== null && fresh !== null ? (old + fresh) / 2 : fresh };
    return rate(last.current.rate);
  };
  return <><T of={text} /> <small><T of={() => words.stream.sent(bytes(stream.get('bytes_sent')))} /></small></>;
}

function Viewers({ id, name }: { id: string; name: string }) {
  const viewers = audience(id).value;
  const operator = isOperator.value;
  useEffect(() => (operator ? lookAt(id) : undefined), [id, operator]);
  if (!operator) return <p>{words.stream.loginToSee} <Button onClick={() => (open.value = { is: 'login' })}>{words.header.login}</Button></p>;
  if (!viewers?.length) return <p>{viewers ? words.stream.noViewers : '…'}</p>;
  const { columns } = words.stream;
  const most = Math.max(8, ...viewers.map((viewer) => viewer.lag_chunks));
  return (
    <table class="viewers" role="table">
      <caption class="offscreen">{words.stream.who}: {name}</caption>
      <thead><tr><th scope="col">{columns.viewer}</th><th scope="col">{columns.player}</th><th scope="col">{columns.since}</th><th scope="col">{columns.lag}</th><th scope="col">{columns.state}</th><th scope="col"><span class="offscreen">{columns.actions}</span></th></tr></thead>
      <tbody>
        {viewers.map((viewer) => (
          <tr key={viewer.id}>
            <td data-label={columns.viewer}><b>{viewerName(viewer)}</b>{viewerName(viewer) !== viewer.address && <small> {viewer.address}</small>}</td>
            <td data-label={columns.player} title={viewer.user_agent}>{player(viewer.user_agent)}</td>
            <td data-label={columns.since}><When at={viewer.connected_at} /></td>
            <td data-label={columns.lag}><Lag chunks={viewer.lag_chunks} most={most} skips={viewer.skips} /></td>
            <td data-label={columns.state} title={viewer.verdict_reason}><State {...viewerState(viewer)} /></td>
            <td><span class="buttons">
              <Button kind="quiet" onClick={() => (open.value = { is: 'name', of: whose(viewer), what: [viewer.address, player(viewer.user_agent)].join(', '), now: viewer.name ?? '' })} label={`${words.stream.nameViewer}: ${viewerName(viewer)}`}>{words.stream.nameViewer}</Button>
              <Button kind="quiet danger" onClick={() => kick(viewer)} label={`${words.stream.kick}: ${viewerName(viewer)}`}>{words.stream.kick}</Button>
            </span></td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** A name is of an address and, where it is known, of one kind of player there. */
const whose = ({ address, player }: Viewer): Whose => ({ is: 'viewer', address, player: player && player !== 'other' ? player : null });

function viewerState(viewer: Viewer): { state: string; word: string } {
  const state = viewer.playing ? viewer.verdict : 'waiting';
  return { state, word: words.verdict[state] ?? state };
}

function Lag({ chunks, most, skips }: { chunks: number; most: number; skips: number }) {
  const label = [words.stream.behind(chunks), skips ? words.stream.skipped(skips) : ''].filter(Boolean).join(', ');
  return (
    <span class="lag" title={`${label}. ${words.stream.harmless}`}>
      <meter min={0} max={most} value={chunks} aria-label={words.stream.columns.lag} /><small>{label}</small>
    </span>
  );
}

export function Timeline({ of, most, named = false }: { of: (event: Happened) => boolean; most: number; named?: boolean }) {
  const shown = happened.value.filter(of).slice(0, most);
  if (shown.length === 0) return <p class="empty">{words.stream.nothing}</p>;
  return (
    <ol class="timeline">
      {shown.map((event) => (
        <li key={`${event.id}${event.timestamp}`} class={`is-${mark(event)}`}><Icon name={mark(event)} /><When at={event.timestamp} /><span>{named && event.stream_id && <b title={event.stream_id}>{streamName(event.stream_id)}: </b>}{sentence(event)}</span></li>
      ))}
    </ol>
  );
}

export function mark(event: Happened): string {
  if (/^(recovered|started|ready|created|connected)$/.test(event.category)) return 'ok';
  if (/failed|vanished|internal|leak|disconnected/.test(event.category)) return 'bad';
  if (/interrupted|warning|repeats|ended|unsure/.test(event.category)) return event.event_type === 'stream' && event.category === 'ended' ? 'idle' : 'warn';
  return 'idle';
}

function Room() {
  const { slots_used, slots_total, engines_healthy, engines: all, slots_waiting, buffer_bytes, buffer_limit_bytes } = totals.value;
  useEffect(lookAtPlan, []);
  if (!isKnown.value) return null;
  const words_ = words.now;
  const next = plan.value;
  return (
    <section aria-labelledby="room-title" class="room">
      <h2 id="room-title">{words_.room}</h2>
      <div class="tiles">
        <div class="tile">
          <Slots used={slots_used} total={slots_total} label={words_.slots(slots_used, slots_total)} />
          <p><b>{words_.slots(slots_used, slots_total)}</b><br />{slots_waiting ? words_.queue(slots_waiting) : words_.free(Math.max(0, slots_total - slots_used))}</p>
        </div>
        <a class="tile" href={to('engines')}>
          <State state={engines_healthy === all && all > 0 ? 'healthy' : engines_healthy === 0 ? 'unhealthy' : 'unsure'} word={words_.enginesWell(engines_healthy, all)} />
        </a>
        {vpns.all.value.map((vpn) => (
          <a class="tile" key={vpn.id} href={to('engines')}>
            <State state={vpn.get('state')} word={`${vpn.id} ${words.engines.vpnState[vpn.get('state')] ?? vpn.get('state')}`} />
            <p>{words.engines.engines(vpn.get('engines').length)}</p>
          </a>
        ))}
        <div class="tile" data-testid="memory">
          <meter min={0} max={Math.max(1, buffer_limit_bytes)} value={buffer_bytes} aria-label={words_.memoryLabel} />
          <p><b>{words_.memory(bytes(buffer_bytes), bytes(buffer_limit_bytes))}</b><br />{words_.memoryOf}</p>
        </div>
        {next !== undefined && (
          <div class="tile">
            <p><b>{words_.next}</b>: {next === null ? words_.notOurs : [...next.next, ...next.waits].slice(0, 3).join('; ') || words_.nothingNext}</p>
          </div>
        )}
      </div>
    </section>
  );
}

const Charts = lazyCharts();

function Lately() {
  return (
    <section aria-labelledby="lately-title" class="lately">
      <div>
        <header class="section-head"><h2 id="lately-title">{words.now.lately}</h2><a class="button quiet end" href={to('history')}>{words.pages.history}</a></header>
        <Charts span="hours" compact />
      </div>
      <div>
        <header class="section-head"><h2>{words.now.happened}</h2>{healed.value !== null && healed.value > 0 && <small class="end" data-testid="healed">{words.now.healedWeek(healed.value, healed.value >= MOST)}</small>}</header>
        <Timeline of={(event) => event.category !== 'audit'} most={10} named />
      </div>
    </section>
  );
}
