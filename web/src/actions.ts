// What a page can have done.
import { change, id as part } from './call';
import { engines, streams } from './live/state';
import { engineName, streamName, viewerName } from './names';
import { attempt, soon, tell } from './toast';
import { words } from './words';
import type { Viewer } from './types';

const touched = (id: string) => streams.get(id)?.peek('client_count') ?? 0;

export const kick = (viewer: Viewer) => {
  const who = viewerName(viewer);
  soon(words.actions.kicking(who), () => change('DELETE', `proxy/viewers/${viewer.id}`), words.actions.kicked(who));
};

export const stop = (id: string) => {
  const name = streamName(id);
  soon(words.actions.stopping(name, touched(id)), () => change('DELETE', `streams/${part(id)}`), words.actions.stopped(name));
};

export const move = (id: string) =>
  attempt(() => change('POST', `proxy/sessions/${part(id)}/move`), words.actions.moving(streamName(id), touched(id)));

export const drain = (id: string) => {
  const name = engineName(id);
  const playing = engines.get(id)?.peek('streams').length ?? 0;
  soon(words.actions.draining(name, playing), () => change('POST', `engines/${part(id)}/drain`), words.actions.drained(name));
};

export const undrain = (id: string) => attempt(() => change('DELETE', `engines/${part(id)}/drain`), words.actions.undrained(engineName(id)));

export const remove = (id: string) => {
  const name = engineName(id);
  const playing = engines.get(id)?.peek('streams').length ?? 0;
  soon(words.actions.deleting(name, playing), () => change('DELETE', `containers/${part(id)}`), words.actions.deleted(name));
};

/** To the clipboard, also where the browser offers none: it does in secure contexts only. */
export async function copy(text: string, what: string) {
  let done = false;
  try {
    await navigator.clipboard.writeText(text);
    done = true;
  } catch {
    const area = Object.assign(document.createElement('textarea'), { value: text, readOnly: true });
    area.className = 'offscreen';
    (document.querySelector('dialog[open]') ?? document.body).append(area);
    area.select();
    done = document.execCommand('copy');
    area.remove();
  }
  if (!done) return tell(words.actions.notCopied, 'bad');
  tell(isLocal(text) ? words.actions.copyLocal : words.actions.copied(what), isLocal(text) ? 'bad' : 'done');
}

export function isLocal(address: string): boolean {
  try {
    const { hostname } = new URL(address);
    return hostname === 'localhost' || hostname === '[::1]' || hostname.startsWith('127.');
  } catch {
    return false;
  }
}
