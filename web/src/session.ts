// Whether this browser may change things, and names that are given.
import { computed, signal } from '@preact/signals';
import { change, get, id as part, Refused, root } from './call';
import { renew } from './live/connection';
import { lookAtNames } from './names';
import type { LoginState } from './types';

export const session = signal<LoginState | null>(null);
export const isOperator = computed(() => session.value?.operator ?? false);

const told = 'BroadcastChannel' in window ? new BroadcastChannel(`acemux-session:${root.pathname}`) : null;
// Another tab has logged in or out: the one that listens for all of them listens anew.
if (told) told.onmessage = () => void look().then(renew, () => {});

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
    const path = `channels/names/${part(of.id)}`;
    await (name ? change('PUT', path, { name }) : change('DELETE', path));
    return lookAtNames();
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
