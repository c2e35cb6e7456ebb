// What streams, engines and viewers are called here.
import { signal } from '@preact/signals';
import { get } from './call';
import { brief } from './format';
import { engines, streams } from './live/state';
import type { ChannelNames, Viewer } from './types';

/** What operators call channels, by the ids that they have named: for streams that play at this moment the server says it. */
export const names = signal<Readonly<Record<string, string>>>({});

export async function lookAtNames() {
  const seen = await get<ChannelNames>('channels/names');
  names.value = { ...seen.by_infohash, ...seen.names };
}

/** A stream by any of its two ids. */
export function streamName(id: string | null | undefined): string {
  if (!id) return '–';
  const hash = id.replace(/^infohash=/, '');
  const live = streams.get(hash) ?? streams.all.value.find((stream) => stream.get('infohash') === hash);
  return live?.get('name') ?? names.value[hash] ?? brief(live?.id ?? hash);
}

/** The name that it was given, if it was. */
export const givenName = (id: string) => streams.get(id)?.peek('name') ?? names.peek()[id] ?? '';

export function engineName(id: string | null | undefined): string {
  if (!id) return '–';
  return engines.get(id)?.get('container_name') ?? brief(id);
}

export function viewerName(viewer: Viewer): string {
  return viewer.name ?? viewer.address;
}
