// Small pieces that every page is made of.
import { useComputed, type ReadonlySignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef } from 'preact/hooks';
import { ago, clock, exact } from '../format';
import { now } from '../live/state';
import { words } from '../words';

const SYMBOLS: Record<string, string> = {
  // States: each has a shape of its own, so that colour is never all that tells them apart.
  ok: 'M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Zm3.3 4.7-3.9 4.6a.8.8 0 0 1-1.2 0L4.6 9.2l1.1-1.1 1 1 3.4-4Z',
  warn: 'M8 1.6 15.2 14H.8L8 1.6Zm-.8 4.6v4h1.6v-4H7.2Zm0 5v1.5h1.6v-1.5H7.2Z',
  bad: 'M2 2h12v12H2V2Zm3.3 2.2L4.2 5.3 6.9 8l-2.7 2.7 1.1 1.1L8 9.1l2.7 2.7 1.1-1.1L9.1 8l2.7-2.7-1.1-1.1L8 6.9 5.3 4.2Z',
  heal: 'M8 .8 15.2 8 8 15.2.8 8 8 .8Zm-.8 4v2.4H4.8v1.6h2.4v2.4h1.6V8.8h2.4V7.2H8.8V4.8H7.2Z',
  start: 'M8 1.5a6.5 6.5 0 1 0 6.5 6.5h-1.7A4.8 4.8 0 1 1 8 3.2V1.5Zm-.9 3v4.1l3 2 .9-1.3-2.3-1.5V4.5H7.1Z',
  idle: 'M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Zm0 1.7a4.8 4.8 0 1 1 0 9.6 4.8 4.8 0 0 1 0-9.6Z',
  play: 'M4 2v12l10-6L4 2Z',
  more: 'M3 6.5a1.5 1.5 0 1 0 0 3 1.5 1.5 0 0 0 0-3Zm5 0a1.5 1.5 0 1 0 0 3 1.5 1.5 0 0 0 0-3Zm5 0a1.5 1.5 0 1 0 0 3 1.5 1.5 0 0 0 0-3Z',
  close: 'm3.4 2.3-1.1 1.1L6.9 8l-4.6 4.6 1.1 1.1L8 9.1l4.6 4.6 1.1-1.1L9.1 8l4.6-4.6-1.1-1.1L8 6.9 3.4 2.3Z',
  chevron: 'm5.5 2.5-1 1L9 8l-4.5 4.5 1 1L11 8 5.5 2.5Z',
  find: 'M7 1.5a5.5 5.5 0 1 0 3.3 9.9l3.2 3.1 1.1-1.1-3.2-3.1A5.5 5.5 0 0 0 7 1.5Zm0 1.6a3.9 3.9 0 1 1 0 7.8 3.9 3.9 0 0 1 0-7.8Z',
  theme: 'M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1Zm0 1.600a5.400 5.400 0 0 1 0 10.800V2.600Z',
  person: 'M8 1.5A3.2 3.2 0 1 0 8 8a3.2 3.2 0 0 0 0-6.5ZM2 14.5c0-3.3 2.7-5.3 6-5.3s6 2 6 5.3H2Z',
  key: 'M5 5.5a3.5 3.5 0 1 0 3.4 4.3h2.1v2h1.7v-2H15V8.2H8.4A3.5 3.5 0 0 0 5 5.5Zm0 1.7a1.8 1.8 0 1 1 0 3.6 1.8 1.8 0 0 1 0-3.6Z',
  pip: 'M1 3h14v10H1V3Zm1.6 1.6v6.8h10.8V4.6H2.6Zm5 3h4.8v3H7.6v-3Z',
  now: 'M1 8h3l2-5 4 10 2-5h3v1.6h-2l-3 7-4-10-1 2.4H1Z',
  engines: 'M2 2h12v5H2V2Zm0 7h12v5H2V9Zm2-5.2v1.4h1.5V3.8H4Zm0 7v1.4h1.5v-1.4H4Z',
  history: 'M1.5 13.5h13V15h-13v-1.5ZM2 8h2.5v4H2V8Zm4-4h2.5v8H6V4Zm4 2.5h2.5V12H10V6.5Z',
  variants: 'M2 3h7v1.6H2V3Zm9-1h1.6v3.6H11V4.6H9V3h2V2ZM2 7.2h3v1.6H2V7.2Zm5-1h-1v3.6h1.6V8.8H14V7.2H7.6v-1H7ZM2 11.4h8V13H2v-1.6Zm9-1h1.6v1H14V13h-1.4v1H11v-3.6Z',
  settings: 'M6.9 1h2.2l.4 1.9 1.3.6 1.7-1 1.5 1.5-1 1.7.6 1.3 1.9.4v2.2l-1.9.4-.6 1.3 1 1.7-1.5 1.5-1.7-1-1.3.6L9.100 15H6.900l-.4-1.900-1.300-.600-1.700 1L2 12l1-1.700-.6-1.300L.5 8.600V7l1.900-.500L3 5.200 2 3.500 3.500 2l1.700 1 1.300-.500L6.900 1ZM8 5.500a2.500 2.500 0 1 0 0 5 2.500 2.500 0 0 0 0-5Z',
  help: 'M8 1.500a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13Zm-.8 9.200h1.600v1.600H7.200v-1.600ZM8 3.700c1.600 0 2.700.9 2.700 2.300 0 1.900-1.900 2-1.900 3.500H7.200c0-2.300 1.900-2.300 1.900-3.400 0-.5-.4-.8-1.100-.8-.8 0-1.200.4-1.200 1H5.200c0-1.600 1.100-2.600 2.800-2.600Z',
};

/** Every symbol once; `Icon` shows one of them. */
export function Sprite() {
  return (
    <svg class="sprite" aria-hidden="true">
      {Object.entries(SYMBOLS).map(([name, d]) => (
        <symbol key={name} id={`i-${name}`} viewBox="0 0 16 16"><path d={d} fill-rule="evenodd" /></symbol>
      ))}
    </svg>
  );
}

export const Icon = ({ name }: { name: string }) => (
  <svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false"><use href={`#i-${name}`} /></svg>
);

/** A text that changes by itself, and nothing around it. */
export function T({ of }: { of: () => string | number }) {
  const text = useComputed(of);
  return <>{text as ReadonlySignal<string | number>}</>;
}

/** When something was, and how long ago. */
export function When({ at, as = 'clock' }: { at: string | null | undefined; as?: 'clock' | 'ago' }) {
  if (!at) return <>–</>;
  return (
    <time dateTime={at} title={exact(at)}>
      {as === 'clock' ? clock(at) : <T of={() => (void now.value, ago(at))} />}
    </time>
  );
}

const LOOKS: Record<string, string> = {
  smooth: 'ok', healthy: 'ok', up: 'ok', starting: 'start', waiting: 'start', unknown: 'idle', lingering: 'idle', healing: 'heal',
  thin_swarm: 'warn', engine_slow: 'warn', viewer_behind: 'warn', unsure: 'warn', draining: 'warn', stalled: 'bad', vpn_down: 'bad', unhealthy: 'bad', down: 'bad',
};
export const look = (state: string) => LOOKS[state] ?? 'warn';

/** A state: shape, word and colour. */
export function State({ state, word }: { state: string; word: string }) {
  return <span class={`state is-${look(state)}`}><Icon name={look(state)} /><span>{word}</span></span>;
}

export function Button({ icon, children, label, onClick, kind = '', disabled = false, pressed, expanded, controls, id }: {
  icon?: string; children?: ComponentChildren; label?: string; onClick: (event: MouseEvent) => void; kind?: string; disabled?: boolean;
  pressed?: boolean; expanded?: boolean; controls?: string; id?: string;
}) {
  return (
    <button
      type="button" id={id} class={`button ${kind} ${children ? '' : 'only-icon'}`} onClick={onClick} disabled={disabled} aria-label={label}
      title={children ? undefined : label} aria-pressed={pressed} aria-expanded={expanded} aria-controls={controls}
    >
      {icon && <Icon name={icon} />}{children && <span>{children}</span>}
    </button>
  );
}

/** A window in front of the page. The browser keeps the focus in it and gives it back after. */
export function Dialog({ title, onClose, children, kind = '' }: { title: string; onClose: () => void; children: ComponentChildren; kind?: string }) {
  const frame = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    const before = document.activeElement;
    frame.current?.showModal();
    return () => {
      if (before instanceof HTMLElement && before.isConnected && before !== document.body) before.focus();
      else document.getElementById('main')?.focus({ preventScroll: true });
    };
  }, []);
  return (
    <dialog
      ref={frame} class={`dialog ${kind}`} aria-labelledby={heading} onClose={onClose}
      onClick={(event) => event.target === frame.current && onClose()}
    >
      <div class="dialog-inside">
        <header>
          <h2 id={heading}>{title}</h2>
          <Button icon="close" label={words.actions.close} onClick={onClose} kind="quiet" />
        </header>
        {children}
      </div>
    </dialog>
  );
}

/** Used and free places as squares, with the same in words. */
export function Slots({ used, total, label }: { used: number; total: number; label: string }) {
  const shown = Math.min(total, 40);
  const squares = Array.from({ length: shown }, (_, at) => <i key={at} class={at < Math.round((used / Math.max(1, total)) * shown) ? 'used' : ''} />);
  return <span class="slots" role="img" aria-label={label}>{squares}</span>;
}

/** A small line of what has arrived. */
export function Spark({ points, label }: { points: ReadonlySignal<readonly number[]>; label: string }) {
  const line = useComputed(() => {
    const values = points.value;
    const most = Math.max(1, ...values);
    const step = 100 / Math.max(1, values.length - 1);
    return values.map((value, at) => `${(at * step).toFixed(1)},${(23 - (value / most) * 21).toFixed(1)}`).join(' ');
  });
  return (
    <svg class="spark" viewBox="0 0 100 24" preserveAspectRatio="none" role="img" aria-label={label}>
      <polyline points={line} />
    </svg>
  );
}

export function Field({ label, hint, children }: { label: string; hint?: string; children: (id: string) => ComponentChildren }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children(id)}
      {hint && <small>{hint}</small>}
    </div>
  );
}
