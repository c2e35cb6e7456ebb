// Addresses of streams for each player, by the host that this page was opened at.
import { url } from './call';

const ID = /^[0-9a-f]{40}$/i;

/** What is not a content id says what it is: `infohash=…`. */
const asked = (id: string) => (id.startsWith('infohash=') ? id : `id=${encodeURIComponent(id)}`);
export const media = (id: string) => url(`ace/getstream?${asked(id)}`);
export const hls = (id: string) => url(`ace/manifest.m3u8?${asked(id)}`);

export interface ForPlayer { name: string; line: (id: string) => string; isAddress: boolean; note: string }

/** One line for each player, in its own language. */
export const players: ForPlayer[] = [
  { name: 'VLC', line: media, isAddress: true, note: 'Media → Open network stream' },
  { name: 'Kodi', line: media, isAddress: true, note: 'a .strm file with this line, or IPTV Simple' },
  { name: 'Jellyfin', line: (id) => m3u(id), isAddress: false, note: 'Live TV → M3U tuner: a file with these lines' },
  { name: 'Plex', line: hls, isAddress: true, note: 'through an HLS tuner such as xTeVe or Threadfin' },
  { name: 'TiviMate', line: media, isAddress: true, note: 'in an M3U playlist' },
  { name: 'Safari, iPhone, Apple TV', line: hls, isAddress: true, note: 'HLS, opens by itself' },
  { name: 'mpv', line: (id) => `mpv "${media(id)}"`, isAddress: false, note: 'in a terminal' },
  { name: 'curl', line: (id) => `curl -o stream.ts "${media(id)}"`, isAddress: false, note: 'in a terminal' },
];

const m3u = (id: string) => `#EXTM3U\n#EXTINF:-1,${id.slice(0, 8)}\n${media(id)}`;

/** The ids in whatever somebody has pasted: an id, acemux's or an engine's address, acestream://, a playlist. */
export function idsIn(text: string): string[] {
  const found = new Set<string>();
  const add = (id: string | undefined, kind = '') => id && ID.test(id) && found.add(kind + id.toLowerCase());
  for (const [, id] of text.matchAll(/acestream:\/{0,2}([0-9a-f]{40})\b/gi)) add(id);
  for (const [, id] of text.matchAll(/[?&](?:id|content_id)=([0-9a-f]{40})\b/gi)) add(id);
  for (const [, id] of text.matchAll(/(?:[?&]infohash=|urn:btih:)([0-9a-f]{40})\b/gi)) add(id, 'infohash=');
  if (found.size === 0) for (const [id] of text.matchAll(/(?<![0-9a-z])[0-9a-f]{40}(?![0-9a-z])/gi)) add(id);
  return [...found];
}
