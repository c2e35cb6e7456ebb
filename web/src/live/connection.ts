// One connection for news per browser, whatever the number of its tabs: HTTP/1.1 gives an origin six connections, and the
// player needs one of them.
//
//   leader ── EventSource ──► take() ──► BroadcastChannel ──► every other tab: take()
//
// Who leads is settled by a Web Lock. Those exist in secure contexts only, and at home this page is opened by plain HTTP:
// there the tabs settle it among themselves (`Election`).
import { api, root } from '../call';
import type { Picture } from '../types';
import { picture, take, type News } from './state';

type Message =
  | { is: 'news'; news: News }
  | { is: 'hello' }
  | { is: 'welcome'; picture: Picture }
  | { is: 'leading'; who: string }
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
let tries = 0;
let retry: number | undefined;
let lastWord = 0;
let hasPicture = false;

const isLeading = () => source !== null || retry !== undefined;

function connect() {
  retry = undefined;
  const opened = new EventSource(api('events/live'), { withCredentials: true });
  source = opened;
  lastWord = Date.now();
  const on = (kind: News['kind']) => (event: MessageEvent<string>) => {
    lastWord = Date.now();
    tries = 0;
    const news = { kind, data: JSON.parse(event.data) } as News;
    if (kind === 'patch' && !hasPicture) return;
    hasPicture ||= kind === 'snapshot';
    take(news);
    say({ is: 'news', news });
  };
  for (const kind of ['snapshot', 'patch', 'log'] as const) opened.addEventListener(kind, on(kind));
  // Also where the browser would try again by itself: its pauses do not grow, and after an answer that is no stream of
  // events it gives up for good.
  opened.onerror = () => again(opened);
}

function again(broken: EventSource) {
  if (source !== broken) return;
  broken.close();
  source = null;
  hasPicture = false;
  const pause = Math.min(MOST_MS, LEAST_MS * 2 ** tries) * (0.5 + Math.random() / 2);
  tries += 1;
  retry = window.setTimeout(connect, pause);
}

function lead() {
  if (!isLeading()) connect();
}

function follow() {
  source?.close();
  source = null;
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

  let leaving: number | undefined;
  const seen = () => {
    clearTimeout(leaving);
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
