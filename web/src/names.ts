// What streams, engines and viewers are called here.
import { brief } from './format';
import { engines, streams } from './live/state';
import { names } from './session';
import type { Viewer } from './types';

/** A stream by any of its two ids. */
export function streamName(id: string | null | undefined): string {
  if (!id) return '–';
  const live = streams.get(id) ?? streams.all.value.find((stream) => stream.get('infohash') === id);
  return names.value[live?.id ?? id] ?? names.value[id] ?? brief(live?.id ?? id);
}

export function engineName(id: string | null | undefined): string {
  if (!id) return '–';
  return engines.get(id)?.get('container_name') ?? brief(id);
}

export function viewerName(viewer: Viewer): string {
  return viewer.name ?? viewer.address;
}
