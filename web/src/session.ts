// Whether this browser may change things, and what people have named.
import { computed, signal } from '@preact/signals';
import { change, get, Refused } from './api';
import { family } from './format';
import { renew } from './live/connection';
import type { LoginState } from './types';

export const session = signal<LoginState | null>(null);
export const isOperator = computed(() => session.value?.operator ?? false);
/** Names by what they are of. */
export const names = signal<Readonly<Record<string, string>>>({});

const told = 'BroadcastChannel' in window ? new BroadcastChannel('acemux-session') : null;
if (told) told.onmessage = () => void look();

/** Also when another tab has logged in, or named something. */
export async function look() {
  session.value = await get<LoginState>('login');
  names.value = isOperator.value ? (await get<{ names: Record<string, string> }>('names')).names : {};
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

export async function giveName(of: string, name: string) {
  const page = await change<{ names: Record<string, string> }>('PUT', 'names', { of, name });
  if (page) names.value = page.names;
  told?.postMessage(null);
}

/** A call that found nobody logged in any more. */
export function isOver(error: unknown): boolean {
  const over = error instanceof Refused && (error.status === 401 || error.code === 'missing_key');
  if (over) void look().catch(() => {});
  return over;
}

export const viewerKey = (address: string, agent: string) => `viewer:${address} ${family(agent)}`;
export const streamKey = (id: string) => `stream:${id}`;
