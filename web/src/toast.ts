// What was done, and what is about to be done unless somebody says no.
import { signal } from '@preact/signals';
import { why } from './call';
import { isOver } from './session';
import { words } from './words';

export interface Toast { id: number; text: string; kind: 'done' | 'bad' | 'pending'; undo?: () => void; hurry?: () => void }

export const toasts = signal<readonly Toast[]>([]);
let next = 1;

/** How long what can be undone waits, and how long the rest is told. */
export const UNDO_MS = 5_000;
const TOLD_MS = 5_000;
const BAD_MS = 12_000;

const put = (toast: Toast) => (toasts.value = [...toasts.value.slice(-3), toast]);
export const drop = (id: number) => (toasts.value = toasts.value.filter((toast) => toast.id !== id));

export function tell(text: string, kind: 'done' | 'bad' = 'done') {
  const id = next++;
  put({ id, text, kind });
  setTimeout(() => drop(id), kind === 'bad' ? BAD_MS : TOLD_MS);
}

/** Does it and says how it went. */
export async function attempt(what: () => Promise<unknown>, done?: string) {
  try {
    await what();
    if (done) tell(done);
  } catch (error) {
    tell(isOver(error) ? words.actions.needKey : words.actions.failed(why(error)), 'bad');
  }
}

const pending = new Set<() => void>();
// Who closes the page has not said no.
window.addEventListener('pagehide', () => [...pending].forEach((hurry) => hurry()));

/** Does it in five seconds, unless it is undone. */
export function soon(text: string, what: () => Promise<unknown>, done: string) {
  const id = next++;
  const end = () => {
    clearTimeout(timer);
    pending.delete(hurry);
    drop(id);
  };
  const hurry = () => {
    end();
    void attempt(what, done);
  };
  const undo = () => {
    end();
    tell(words.actions.undone);
  };
  const timer = setTimeout(hurry, UNDO_MS);
  pending.add(hurry);
  put({ id, text, kind: 'pending', undo, hurry });
}
