// How often streams were healed lately.
import { computed, signal } from '@preact/signals';
import { get } from './call';
import { happened, keyOf } from './live/state';
import type { Happened } from './types';

const WEEK_MS = 7 * 86_400_000;
/** More are not counted. */
export const MOST = 100;

const before = signal<readonly Happened[] | null>(null);

export async function lookAtHealed() {
  const since = new Date(Date.now() - WEEK_MS).toISOString();
  before.value = await get<Happened[]>(`events?event_type=stream&category=recovered&since=${since}&limit=${MOST}`);
}

/** Of a week, with those that have been told since; null while it is not known. */
export const healed = computed(() => {
  if (!before.value) return null;
  const all = new Set(before.value.map(keyOf));
  for (const event of happened.value) if (event.event_type === 'stream' && event.category === 'recovered') all.add(keyOf(event));
  return all.size;
});
