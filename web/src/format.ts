// Numbers and times as people read them. Each has its unit.

/** `8.1 Mbit/s`, from bits per second. */
export function rate(bps: number | null | undefined): string {
  if (bps == null) return '– Mbit/s';
  const mbit = bps / 1e6;
  return `${mbit >= 100 ? mbit.toFixed(0) : mbit.toFixed(1)} Mbit/s`;
}

/** `214 MB`, from bytes. */
export function bytes(n: number | null | undefined): string {
  if (n == null) return '–';
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let at = 0;
  while (n >= 1000 && at < units.length - 1) {
    n /= 1000;
    at += 1;
  }
  return `${at === 0 || n >= 100 ? n.toFixed(0) : n.toFixed(1)} ${units[at]}`;
}

/** `18 min`, from seconds: the largest unit that says something. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds < 0) return '0 s';
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) {
    const minutes = Math.floor((seconds % 3600) / 60);
    return minutes ? `${Math.floor(seconds / 3600)} h ${minutes} min` : `${Math.floor(seconds / 3600)} h`;
  }
  return `${Math.floor(seconds / 86_400)} d`;
}

/** `1.2 s`, from milliseconds. */
export function short(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

const time = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const dayTime = new Intl.DateTimeFormat(undefined, {
  month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', hourCycle: 'h23',
});
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'long' });

/** Time of day in the browser's zone, with the day when it is not today. */
export function clock(at: string | null | undefined): string {
  if (!at) return '–';
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return '–';
  return date.toDateString() === new Date().toDateString() ? time.format(date) : dayTime.format(date);
}

/** With date, seconds and zone, for a tooltip. */
export function exact(at: string | null | undefined): string {
  const date = new Date(at ?? '');
  return Number.isNaN(date.getTime()) ? '' : full.format(date);
}

/** How long ago that is. */
export function ago(at: string | null | undefined): string {
  const date = new Date(at ?? '');
  return Number.isNaN(date.getTime()) ? '–' : duration((Date.now() - date.getTime()) / 1000);
}

/** `acec…0264`, for what has no name. */
export function brief(id: string): string {
  return id.length > 14 ? `${id.slice(0, 6)}…${id.slice(-4)}` : id;
}

/** `1080p50 H.264 · AAC`. */
export function format(stream: { resolution?: string | null; fps?: number | null; scan?: string | null; video_codec?: string | null; audio_codec?: string | null }): string {
  const height = stream.resolution?.split('x')[1];
  const fps = stream.fps ? String(Math.round(stream.fps * 100) / 100) : '';
  const picture = height ? `${height}${stream.scan === 'interlaced' ? 'i' : 'p'}${fps}` : '';
  const parts = [picture, codec(stream.video_codec)].filter(Boolean).join(' ');
  return [parts, codec(stream.audio_codec)].filter(Boolean).join(' · ');
}

const CODECS: Record<string, string> = {
  h264: 'H.264', hevc: 'H.265', vvc: 'H.266', mpeg2video: 'MPEG-2', mpeg4: 'MPEG-4', vc1: 'VC-1',
  aac: 'AAC', aac_latm: 'AAC (LATM)', mpeg_audio: 'MPEG audio (MP2)', ac3: 'AC-3', eac3: 'E-AC-3', dts: 'DTS', opus: 'Opus',
};

/** As people write it. */
export function codec(name: string | null | undefined): string {
  return name ? (CODECS[name] ?? name) : '';
}
