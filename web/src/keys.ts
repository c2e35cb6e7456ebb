// The keyboard, and what is pasted anywhere.
import { idsIn } from './addresses';
import { open } from './parts/windows';
import { go, PAGES, route } from './route';
import { tell } from './toast';
import { words } from './words';

const isTyping = (target: EventTarget | null) =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

const rows = () => [...document.querySelectorAll<HTMLElement>('[data-row]')];

function step(by: number) {
  const all = rows();
  if (all.length === 0) return;
  const at = all.findIndex((row) => row.contains(document.activeElement));
  const next = at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by));
  all[next]?.querySelector<HTMLElement>('[data-row-button]')?.focus();
}

const within = (selector: string) => document.activeElement?.closest('[data-row]')?.querySelector<HTMLElement>(selector);

export function onKey(event: KeyboardEvent) {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || document.querySelector('dialog[open]')) return;
  const page = PAGES[Number(event.key) - 1];
  const done = (what: () => void) => {
    event.preventDefault();
    what();
  };
  if (page) return done(() => go(page));
  switch (event.key) {
    case '/':
      return done(() => {
        if (!document.querySelector('[data-find]')) go('now');
        requestAnimationFrame(() => document.querySelector<HTMLElement>('[data-find]')?.focus());
      });
    case 'j': return done(() => step(1));
    case 'k': return done(() => step(-1));
    case 'w': return done(() => within('[data-watch]')?.click());
    case '?': return done(() => (open.value = { is: 'keys' }));
  }
}

export function onPaste(event: ClipboardEvent) {
  if (isTyping(event.target) || route.value === undefined) return;
  const text = event.clipboardData?.getData('text') ?? '';
  if (!text.trim()) return;
  const ids = idsIn(text);
  if (ids.length) open.value = { is: 'paste', ids };
  else tell(words.paste.unknown, 'bad');
}
