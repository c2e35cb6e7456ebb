// One connection for news per browser, whatever the number of its tabs: HTTP/1.1 gives an origin six connections, and the
// player needs one of them.
//
//   leader ── EventSource ──► take() ──► BroadcastChannel ──► every other tab: take()
//
// Who leads is settled by a Web Lock. Those exist in secure contexts only, and at home this page is opened by plain HTTP:
// there the tabs settle it among themselves (`Election`).
//
// Who watches a stream is told only of those whose rows are open, in whichever tab: the others tell the leader, and it
// listens anew with all of them before it lets go of what it has.
import { api, root } from '../call';
import type { Picture } from '../types';
import { picture, streams, take, type News } from './state';

type Message =
  | { is: 'news'; news: News }
  | { is: 'hello' }
  | { is: 'welcome'; picture: Picture }
  | { is: 'leading'; who: string }
  | { is: 'looking'; who: string; at: string[] }
  | { is: 'who looks' }
  | { is: 'leaving' };

/** A tab that nobody looks at gives its part up after this. */
const HIDDEN_MS = 60_000;
/** Longest pause between two tries, and the shortest. */
const MOST_MS = 15_000;
const LEAST_MS = 1_000;
/** Without a word for this long a connection counts as dead: patches come every second. */
const DEAD_MS = 8_000;

const NAME = `acemux-news:${root.pathname}`;
const me = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
const channel = 'BroadcastChannel' in window ? new BroadcastChannel(NAME) : null;
const say = (message: Message) => channel?.postMessage(message);

let source: EventSource | null = null;
/** What the leader is about to listen to instead. */
let coming: EventSource | null = null;
let tries = 0;
let retry: number | undefined;
let lastWord = 0;
let hasPicture = false;

const isLeading = () => source !== null || retry !== undefined;

/** Listens; nothing is watched yet, because after a break nobody knows which streams there are. */
function connect() {
  retry = undefined;
  source = listen('');
  listened = '';
  lastWord = Date.now();
}

function listen(watched: string): EventSource {
  const opened = new EventSource(api(`events/live${watched && `?watch=${encodeURIComponent(watched)}`}`), { withCredentials: true });
  const on = (kind: News['kind']) => (event: MessageEvent<string>) => {
    const isFirst = opened === coming;
    if (isFirst) change(opened, watched);
    if (opened === source) hear({ kind, data: JSON.parse(event.data) } as News, isFirst || opened === changed);
  };
  for (const kind of ['snapshot', 'patch', 'viewers', 'log'] as const) opened.addEventListener(kind, on(kind));
  // Also where the browser would try again by itself: its pauses do not grow, and after an answer that is no stream of
  // events it gives up for good.
  opened.onerror = () => again(opened);
  return opened;
}

/** The one that came by asking for more: its pictures are no news. */
let changed: EventSource | null = null;

/** From what was listened to before to what has begun to tell. */
function change(opened: EventSource, watched: string) {
  source?.close();
  [source, changed, coming, listened, refusals] = [opened, opened, null, watched, 0];
}

function hear(news: News, isMore: boolean) {
  lastWord = Date.now();
  tries = 0;
  if (news.kind === 'patch' && !hasPicture) return;
  hasPicture ||= news.kind === 'snapshot';
  if (news.kind === 'snapshot' && isMore) news.more = true;
  take(news);
  say({ is: 'news', news });
  lookAnew();
}

function again(broken: EventSource) {
  if (coming === broken) {
    // One of the streams is over, say: what is told goes on, and another try has the others.
    broken.close();
    coming = null;
    refusals += 1;
    askAt = Date.now() + Math.min(MOST_MS, LEAST_MS * 2 ** (refusals - 1));
    return;
  }
  if (source !== broken) return;
  letGo();
  hasPicture = false;
  const pause = Math.min(MOST_MS, LEAST_MS * 2 ** tries) * (0.5 + Math.random() / 2);
  tries += 1;
  retry = window.setTimeout(connect, pause);
}

function letGo() {
  source?.close();
  coming?.close();
  source = coming = changed = null;
}

/** What is watched on the connection that there is. */
let listened = '';
/** How often it was refused one after the other, and when it is tried again. */
let refusals = 0;
let askAt = 0;
/** Streams that this tab looks at, and how many of its parts do. */
const looks = new Map<string, number>();
/** What the other tabs look at, and when they said so last. */
const others = new Map<string, { at: string[]; said: number }>();
/** A tab says it again so often; who has not for so long is gone. */
const LOOKING_MS = 5_000;
const GONE_MS = 16_000;
/** Most streams that the server tells of at once. */
const MOST_LOOKS = 16;

const own = () => (document.visibilityState === 'visible' ? [...looks.keys()] : []);

function wanted(): string {
  for (const [who, { said }] of others) if (Date.now() - said > GONE_MS) others.delete(who);
  const all = new Set([...own(), ...[...others.values()].flatMap(({ at }) => at)].filter((id) => streams.has(id)));
  return [...all].sort().slice(0, MOST_LOOKS).map((id) => `stream:${id}`).join(',');
}

/** The leader listens to other streams when others are looked at; the rest tell what they look at. */
function lookAnew() {
  if (!isLeading()) return say({ is: 'looking', who: me, at: own() });
  if (!source || !hasPicture || coming || Date.now() < askAt) return;
  const next = wanted();
  if (next !== listened) coming = listen(next);
}

/** Has the server tell who watches a stream, until it is given up. */
export function lookAt(id: string): () => void {
  looks.set(id, (looks.get(id) ?? 0) + 1);
  lookAnew();
  return () => {
    const left = (looks.get(id) ?? 1) - 1;
    if (left) looks.set(id, left);
    else looks.delete(id);
    lookAnew();
  };
}

function lead() {
  if (isLeading()) return;
  connect();
  say({ is: 'who looks' });
}

function follow() {
  letGo();
  hasPicture = false;
  clearTimeout(retry);
  retry = undefined;
}

/** With Web Locks: who holds the lock leads, and the browser hands it on when a tab closes or crashes. */
class Locked {
  #release: (() => void) | undefined;
  #asking: AbortController | undefined;

  join() {
    if (this.#release || this.#asking) return;
    this.#asking = new AbortController();
    const held = () =>
      new Promise<void>((over) => {
        this.#asking = undefined;
        this.#release = over;
        lead();
      });
    navigator.locks.request(NAME, { signal: this.#asking.signal }, held).catch(() => {});
  }

  leave() {
    this.#asking?.abort();
    this.#asking = undefined;
    follow();
    this.#release?.();
    this.#release = undefined;
  }

  hear(_: Message) {}
}

/** Without: the tab with the smallest name leads. Who hears of no leader for a while proposes itself. */
class Election {
  #isIn = false;
  #leaderAt = 0;

  constructor() {
    setInterval(() => this.#look(), 1_000);
  }

  join() {
    if (this.#isIn) return;
    this.#isIn = true;
    // A leader answers at once; the wait is for that.
    this.#leaderAt = Date.now() - 2_200 - Math.random() * 300;
    say({ is: 'hello' });
  }

  leave() {
    this.#isIn = false;
    follow();
    say({ is: 'leaving' });
  }

  hear(message: Message) {
    if (message.is === 'leaving') this.#leaderAt = 0;
    if (message.is === 'hello' && isLeading()) say({ is: 'leading', who: me });
    if (message.is !== 'leading' || message.who === me) return;
    if (isLeading() && me < message.who) return say({ is: 'leading', who: me });
    this.#leaderAt = Date.now();
    if (isLeading()) {
      follow();
      say({ is: 'hello' });
    }
  }

  #look() {
    if (!this.#isIn) return;
    if (isLeading()) return say({ is: 'leading', who: me });
    if (Date.now() - this.#leaderAt > 2_500) lead();
  }
}

export function begin() {
  const part = 'locks' in navigator ? new Locked() : new Election();
  if (channel) {
    channel.onmessage = ({ data }: MessageEvent<Message>) => {
      part.hear(data);
      if (data.is === 'looking') others.set(data.who, { at: data.at, said: Date.now() });
      if (data.is === 'looking' ? isLeading() : data.is === 'who looks' && looks.size > 0) lookAnew();
      if (data.is === 'news' && !isLeading()) {
        if (data.news.kind === 'patch' && !hasPicture) return;
        hasPicture ||= data.news.kind === 'snapshot';
        take(data.news);
      } else if (data.is === 'hello' && source && hasPicture) say({ is: 'welcome', picture: picture() });
      else if (data.is === 'welcome' && !isLeading() && !hasPicture) {
        hasPicture = true;
        take({ kind: 'snapshot', data: data.picture });
      }
    };
    say({ is: 'hello' });
  }
  part.join();

  // A connection that breaks without an end, as in a laptop that slept.
  setInterval(() => {
    if (source && Date.now() - lastWord > DEAD_MS) again(source);
  }, 1_000);
  setInterval(() => looks.size > 0 && lookAnew(), LOOKING_MS);

  let leaving: number | undefined;
  const seen = () => {
    clearTimeout(leaving);
    if (looks.size > 0) lookAnew();
    if (document.visibilityState === 'hidden') {
      leaving = window.setTimeout(() => {
        hasPicture = false;
        part.leave();
      }, HIDDEN_MS);
      return;
    }
    part.join();
    if (!isLeading()) say({ is: 'hello' });
    // Nobody should wait for a pause that has grown while nobody looked.
    if (retry !== undefined) {
      clearTimeout(retry);
      tries = 0;
      connect();
    }
  };
  document.addEventListener('visibilitychange', seen);
  window.addEventListener('online', seen);
  window.addEventListener('pagehide', () => part.leave());
  window.addEventListener('pageshow', (event) => event.persisted && seen());
}

/** After a login or its end the server tells more, or less. */
export function renew() {
  if (!source) return;
  follow();
  lead();
}
