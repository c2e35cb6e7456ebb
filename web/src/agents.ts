// Players, by what they call themselves.
import { words } from './words';

/** What the player in the corner calls itself. */
const OWN = 'acemux dashboard, ';

/** The player by its user agent: `VLC 3.0.21`, `Chrome`. */
export function player(agent: string): string {
  const known: [RegExp, string][] = [
    [/\bVLC\/([\d.]+)/, 'VLC'], [/\bLibVLC\/([\d.]+)/, 'VLC'], [/\bKodi\/([\d.]+)/, 'Kodi'], [/\bLavf\/([\d.]+)/, 'FFmpeg'],
    [/\bmpv\b ?\/?([\d.]*)/, 'mpv'], [/Jellyfin[^/]*\/([\d.]+)/, 'Jellyfin'], [/TiviMate\/([\d.]+)/, 'TiviMate'],
    [/ExoPlayer[^/]*\/([\d.]+)/, 'ExoPlayer'], [/\bcurl\/([\d.]+)/, 'curl'], [/\bEdg\/(\d+)/, 'Edge'], [/\bFirefox\/(\d+)/, 'Firefox'],
    [/\bChrome\/(\d+)/, 'Chrome'], [/Version\/(\d+)[^ ]* .*Safari/, 'Safari'],
  ];
  if (agent.startsWith(OWN)) return [words.player.own, player(agent.slice(OWN.length))].filter((part) => part !== '–').join(', ');
  for (const [pattern, name] of known) {
    const found = pattern.exec(agent);
    if (found) return [name, found[1]].filter(Boolean).join(' ');
  }
  return agent.slice(0, 40) || '–';
}
