// Whether this browser may change things, and what people have named.
import { computed, signal } from '@preact/signals';
import { change, get, Refused } from './call';
import { renew } from './live/connection';
import type { LoginState } from './types';

export const session = signal<LoginState | null>(null);
export const isOperator = computed(() => session.value?.operator ?? false);

/** Names of streams, which this browser keeps; those of viewers the service keeps. */
const KEPT = 'acemux-stream-names';
const kept = (): Record<string, string> => {
  try {
    return JSON.parse(localStorage.getItem(KEPT) ?? '{}') as Record<string, string>;
  } catch {
    return {};
  }
};
export const names = signal<Readonly<Record<string, string>>>(kept());
window.addEventListener('storage', () => (names.value = kept()));

const told = 'BroadcastChannel' in window ? new BroadcastChannel('acemux-session') : null;
if (told) told.onmessage = () => void look();

/** Also when another tab has logged in, or named something. */
export async function look() {
  session.value = await get<LoginState>('login');
}

export async function logIn(key: string) {
  await change('POST', 'login', { key });
  await look();
  told?.postMessage(null);
  renew();
}

export async function logOut() {
  await change('POST', 'logout');
  await look();
  told?.postMessage(null);
  renew();
}

/** What a name is of. */
export type Whose = { is: 'stream'; id: string } | { is: 'viewer'; address: string; player: string | null };

/** An empty name takes the old one back. */
export async function giveName(of: Whose, name: string) {
  if (of.is === 'stream') {
    const { [of.id]: _, ...others } = names.value;
    names.value = name ? { ...others, [of.id]: name } : others;
    localStorage.setItem(KEPT, JSON.stringify(names.value));
    return;
  }
  const { address, player } = of;
  if (name) await change('PUT', 'names', { address, ...(player ? { player } : {}), name });
  else await change('DELETE', `names?${new URLSearchParams({ address, ...(player ? { player } : {}) })}`);
}

/** A call that found nobody logged in any more. */
export function isOver(error: unknown): boolean {
  const over = error instanceof Refused && (error.status === 401 || error.code === 'missing_key');
  if (over) void look().catch(() => {});
  return over;
}
