// A small player in the corner that stays while somebody browses.
import { signal } from '@preact/signals';
import { useEffect, useRef, useState } from 'preact/hooks';
import type Mpegts from 'mpegts.js';
import { hls, media } from '../addresses';
import { why } from '../call';
import { codec } from '../format';
import { streams } from '../live/state';
import { streamName } from '../names';
import type { Stream } from '../types';
import { loaded } from '../version';
import { words } from '../words';
import { Button } from './basics';

export const watched = signal<string | null>(null);
export const watch = (id: string) => (watched.value = id);

/** In which type of a media source each codec would be played. */
const TYPES: Record<string, string> = {
  aac: 'audio/mp4; codecs="mp4a.40.2"', ac3: 'audio/mp4; codecs="ac-3"', eac3: 'audio/mp4; codecs="ec-3"', opus: 'audio/mp4; codecs="opus"',
  h264: 'video/mp4; codecs="avc1.640028"', hevc: 'video/mp4; codecs="hvc1.1.6.L120.B0"',
};
const AUDIO = ['aac', 'aac_latm', 'ac3', 'eac3', 'opus', 'mpeg_audio', 'dts'];
const source = () => window.MediaSource ?? (window as unknown as { ManagedMediaSource?: typeof MediaSource }).ManagedMediaSource;

export function isPlayable(name: string): boolean {
  const type = TYPES[name];
  return type !== undefined && (source()?.isTypeSupported(type) ?? false);
}

/** What this browser cannot play of a stream, in a sentence. */
export function complaint(stream: Pick<Stream, 'video_codec' | 'tracks'>): string | null {
  if (stream.video_codec && !isPlayable(stream.video_codec)) return words.player.noPicture(codec(stream.video_codec));
  const sounds = stream.tracks.filter((track) => AUDIO.includes(track.codec));
  if (sounds.length === 0) return stream.tracks.length ? words.player.silent : null;
  return sounds.some((sound) => isPlayable(sound.codec)) ? null : words.player.noSound(codec(sounds[0]?.codec));
}

/** A player that has played tries again by itself, so often one after the other; the first pause, each next one is twice as long. */
const TRIES = 5;
const PAUSE_MS = 1_500;

type Fail = (reason: string, isFinal?: boolean) => void;
type Phase = { is: 'loading' } | { is: 'waiting' } | { is: 'playing' } | { is: 'failed'; why: string };

export function Player() {
  const id = watched.value;
  return id ? <Corner key={id} id={id} /> : null;
}

function Corner({ id }: { id: string }) {
  const video = useRef<HTMLVideoElement>(null);
  const [phase, setPhase] = useState<Phase>({ is: 'loading' });
  const [behind, setBehind] = useState<number | null>(null);
  const [round, setRound] = useState(0);
  const hasPlayed = useRef(false);
  const tries = useRef(0);
  const plays = () => {
    [hasPlayed.current, tries.current] = [true, 0];
    setPhase({ is: 'playing' });
  };
  /** By the browser, which wants to be asked first. */
  const [isMuted, setIsMuted] = useState(false);

  useEffect(() => {
    const screen = video.current;
    if (!screen) return;
    let isOver = false;
    let end = () => {};
    let again: number | undefined;
    const fail: Fail = (reason, isFinal = false) => {
      if (isOver) return;
      if (isFinal || !hasPlayed.current || tries.current >= TRIES) return setPhase({ is: 'failed', why: reason });
      setPhase({ is: 'waiting' });
      again = window.setTimeout(() => setRound((round) => round + 1), PAUSE_MS * 2 ** tries.current);
      tries.current += 1;
    };
    const start = async () => {
      const { default: mpegts } = await loaded(import('mpegts.js'));
      if (isOver) return;
      setPhase({ is: 'waiting' });
      if (mpegts.isSupported()) end = throughMediaSource(mpegts, screen, id, fail, () => setIsMuted(true));
      else if (screen.canPlayType('application/vnd.apple.mpegurl')) end = natively(screen, id, fail);
      else fail(words.player.noSupport);
    };
    start().catch((error: unknown) => fail(why(error)));
    return () => {
      isOver = true;
      clearTimeout(again);
      end();
    };
  }, [id, round]);

  useEffect(() => {
    const look = setInterval(() => {
      const screen = video.current;
      if (!screen?.buffered.length) return;
      setBehind(Math.max(0, screen.buffered.end(screen.buffered.length - 1) - screen.currentTime));
    }, 1000);
    return () => clearInterval(look);
  }, []);

  const live = streams.get(id) ?? streams.all.value.find((stream) => `infohash=${stream.get('infohash')}` === id);
  const said = live ? complaint({ video_codec: live.get('video_codec'), tracks: live.get('tracks') }) : null;
  return (
    <aside class="player" aria-label={words.player.title}>
      <header>
        <b>{streamName(live?.id ?? id)}</b>
        {'pictureInPictureEnabled' in document && document.pictureInPictureEnabled && (
          <Button icon="pip" kind="quiet" label={words.player.pip} onClick={() => void video.current?.requestPictureInPicture().catch(() => {})} />
        )}
        <Button icon="close" kind="quiet" label={words.actions.close} onClick={() => (watched.value = null)} />
      </header>
      <video ref={video} controls autoPlay playsInline onPlaying={plays} onVolumeChange={(event) => event.currentTarget.muted || setIsMuted(false)} />
      <footer>
        {phase.is === 'failed' ? (
          <p class="note is-bad" role="alert">{words.player.failed(phase.why)} <Button onClick={() => { setPhase({ is: 'waiting' }); setRound(round + 1); }}>{words.player.again}</Button></p>
        ) : phase.is === 'playing' ? (
          behind !== null && <p>{words.player.behind(behind)}</p>
        ) : (
          <p>{phase.is === 'loading' ? words.player.loading : words.player.waiting}</p>
        )}
        {said && <p class="note is-warn">{said}</p>}
        {isMuted && !said && <p class="note is-warn">{words.player.muted}</p>}
      </footer>
    </aside>
  );
}

function throughMediaSource(mpegts: typeof Mpegts, screen: HTMLVideoElement, id: string, fail: Fail, mute: () => void) {
  mpegts.LoggingControl.enableAll = false;
  const player = mpegts.createPlayer(
    { type: 'mpegts', isLive: true, url: media(id), cors: false },
    // The stash would wait for data that a slow stream does not have.
    // A page cannot choose what it calls itself otherwise.
    { headers: { 'X-Acemux-Player': 'dashboard' }, enableStashBuffer: false, lazyLoad: false, liveBufferLatencyChasing: true, liveBufferLatencyMaxLatency: 15, liveBufferLatencyMinRemain: 5 },
  );
  player.attachMediaElement(screen);
  // What is wrong with the picture stands at the screen; what is wrong with the bytes says the player.
  player.on(mpegts.Events.ERROR, (kind: string, detail: string, info?: { code?: number; msg?: string }) => {
    const reason = screen.error?.code === MediaError.MEDIA_ERR_DECODE ? words.player.undecodable : (info?.msg ?? `${kind}: ${detail}`);
    // Who was thrown out, say, stays out.
    fail(reason, detail === mpegts.ErrorDetails.NETWORK_STATUS_CODE_INVALID && (info?.code ?? 0) < 500);
  });
  player.load();
  // Without sound where the browser wants to be asked first.
  Promise.resolve(player.play()).catch((error: unknown) => {
    if (!(error instanceof DOMException && error.name === 'NotAllowedError')) return;
    screen.muted = true;
    mute();
    Promise.resolve(player.play()).catch(() => {});
  });
  return () => player.destroy();
}

function natively(screen: HTMLVideoElement, id: string, fail: Fail) {
  const failed = () => fail(screen.error?.message ?? '');
  screen.addEventListener('error', failed);
  screen.src = hls(id);
  return () => {
    screen.removeEventListener('error', failed);
    screen.removeAttribute('src');
    screen.load();
  };
}
