// The frame around every page: header, pages, what is about to happen, the player.
import { effect, signal, useComputed } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { rate } from './format';
import { onKey, onPaste } from './keys';
import { heard, isFrozen, isKnown, now, rates, silence, totals } from './live/state';
import { Button, Icon, Sprite, T } from './parts/basics';
import { Player } from './parts/player';
import { Windows, open } from './parts/windows';
import { Engines } from './pages/engines';
import { Help } from './pages/help';
import { History } from './pages/history';
import { Now } from './pages/now';
import { Settings } from './pages/settings';
import { Variants } from './pages/variants';
import { problems } from './problems';
import { PAGES, route, to, type Page } from './route';
import { isOperator } from './session';
import { drop, toasts } from './toast';
import { isOld, upSince } from './version';
import { words } from './words';

const THEMES = ['auto', 'light', 'dark'] as const;
type Theme = (typeof THEMES)[number];
const theme = signal<Theme>(THEMES.find((known) => known === localStorage.getItem('acemux-theme')) ?? 'auto');
effect(() => {
  document.documentElement.dataset.theme = theme.value;
  localStorage.setItem('acemux-theme', theme.value);
});

/** The tab's title and picture say the same as the page: it may be pinned. */
effect(() => {
  const [wrong, watching] = [problems.value.length, totals.value.viewers];
  document.title = isFrozen.value ? `… ${words.name}` : wrong ? `▲${wrong} ${words.name}` : watching ? `${watching} ▶ ${words.name}` : words.name;
  const shape = isFrozen.value
    ? '<circle cx="16" cy="16" r="11" fill="none" stroke="#8795a5" stroke-width="5"/>'
    : problems.value.some((one) => one.level === 'bad') ? '<path d="M4 4h24v24H4z" fill="#e5484d"/>'
    : wrong ? '<path d="M16 3 31 29H1z" fill="#f5a524"/>' : '<circle cx="16" cy="16" r="13" fill="#2fb170"/>';
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">${shape}</svg>`;
  document.getElementById('favicon')?.setAttribute('href', `data:image/svg+xml,${encodeURIComponent(svg)}`);
});

export function App() {
  const main = useRef<HTMLElement>(null);
  const page = route.value.page;
  const first = useRef(true);
  useEffect(() => {
    document.addEventListener('keydown', onKey);
    document.addEventListener('paste', onPaste);
  }, []);
  useEffect(() => {
    if (!first.current) {
      main.current?.focus();
      window.scrollTo(0, 0);
    }
    first.current = false;
  }, [page]);
  const classes = useComputed(() => (isFrozen.value ? 'shell frozen' : 'shell'));
  return (
    <>
      <Sprite />
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); main.current?.focus(); }}>{words.skip}</a>
      <div class={classes}>
        <Header />
        <Pages page={page} />
        <main id="main" ref={main} tabIndex={-1}>
          {isOld.value && <section class="verdict-bar is-warn" role="status" data-testid="old"><p><Icon name="warn" /><span>{words.header.old}</span><Button kind="main" onClick={() => location.reload()}>{words.header.reload}</Button></p></section>}
          <Shown page={page} />
        </main>
      </div>
      <Player />
      <Toasts />
      <Windows />
      <Announcer />
    </>
  );
}

function Shown({ page }: { page: Page }) {
  const pages = { now: Now, engines: Engines, history: History, variants: Variants, settings: Settings, help: Help };
  const Chosen = pages[page];
  return <Chosen />;
}

function Header() {
  const operator = isOperator.value;
  return (
    <header class="top">
      <a class="brand" href={to('now')}><img src="./icon.svg" alt="" width="28" height="28" /><span>{words.name}</span></a>
      <Beat />
      <p class="figures">
        <b><T of={() => words.header.watching(totals.value.viewers)} /></b>
        <span class="wide-only"><T of={() => words.header.streams(totals.value.streams)} /></span>
        <span><T of={() => rate(rates.value?.out)} /> {words.header.out}</span>
        <span class="wide-only"><T of={() => rate(rates.value?.in)} /> {words.header.in}</span>
        {upSince.value && <span class="wide-only"><T of={() => words.header.up((now.value - (upSince.value ?? 0)) / 1000)} /></span>}
      </p>
      <Button icon="theme" kind="quiet" label={words.header.theme(words.header.themes[theme.value])} onClick={() => (theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length] ?? 'auto')} />
      <Button icon={operator ? 'person' : 'key'} kind="quiet" label={operator ? words.header.account : words.header.login} onClick={() => (open.value = { is: 'login' })} />
    </header>
  );
}

/** Beats with each piece of news; says so when there is none. */
function Beat() {
  const dot = useRef<HTMLSpanElement>(null);
  useEffect(
    () =>
      effect(() => {
        if (heard.value === 0 || matchMedia('(prefers-reduced-motion: reduce)').matches) return;
        dot.current?.animate([{ transform: 'scale(1.5)' }, { transform: 'scale(1)' }], { duration: 400, easing: 'ease-out' });
      }),
    [],
  );
  const kind = useComputed(() => (isFrozen.value ? 'beat is-stale' : isKnown.value ? 'beat is-live' : 'beat'));
  const text = () =>
    isFrozen.value ? words.header.stale(Math.floor(silence.value / 1000)) : isKnown.value ? words.header.beating : words.header.connecting;
  return <p class={kind} data-testid="beat"><span class="dot" ref={dot} aria-hidden="true" /><span class="beat-text"><T of={text} /></span></p>;
}

function Pages({ page }: { page: Page }) {
  return (
    <nav class="pages" aria-label={words.header.menu}>
      <ul>
        {PAGES.map((name) => (
          <li key={name}><a href={to(name)} aria-current={name === page ? 'page' : undefined}><Icon name={name} /><span>{words.pages[name]}</span></a></li>
        ))}
      </ul>
    </nav>
  );
}

function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.value.map((toast) => (
        <div key={toast.id} class={`toast is-${toast.kind}`}>
          <p>{toast.text}</p>
          {toast.undo && <Button kind="main" onClick={toast.undo}>{words.actions.undo}</Button>}
          {toast.hurry && <Button kind="quiet" onClick={toast.hurry}>{words.actions.now}</Button>}
          {!toast.undo && <Button icon="close" kind="quiet" label={words.actions.close} onClick={() => drop(toast.id)} />}
        </div>
      ))}
    </div>
  );
}

/** For who does not see the page: new problems, and that there is no news. Nothing else speaks by itself. */
function Announcer() {
  const said = useRef(new Set<string>());
  const text = useComputed(() => {
    if (isFrozen.value) return words.problem.noNews;
    const fresh = problems.value.filter((one) => !said.current.has(one.key));
    said.current = new Set(problems.value.map((one) => one.key));
    return fresh.map((one) => one.text).join(' ');
  });
  return <div class="offscreen" role="log" aria-live="assertive">{text}</div>;
}
