// What needs somebody, as sentences with a cause, a time and one thing to do.
import { computed, signal } from '@preact/signals';
import { get } from './call';
import { engines, happened, now, streams, totals, vpns, isKnown } from './live/state';
import { engineName, streamName } from './names';
import type { Happened, LeakProof, Status } from './types';
import { words } from './words';

export type Step = 'engines' | 'history' | 'move' | 'drain' | 'again' | 'login' | 'settings';
export interface Problem {
  /** The same for as long as it is the same problem. */
  key: string;
  level: 'bad' | 'warn';
  text: string;
  step?: Step;
  /** Of the stream or engine that the step is about. */
  about?: string;
  dismissable?: boolean;
}

/** For how long a start that failed is told. */
const FAILED_MS = 3 * 60_000;

export const status = signal<Status | null>(null);
/** What somebody has read and put away. */
export const dismissed = signal<ReadonlySet<string>>(new Set());

export async function lookAtStatus() {
  status.value = await get<Status>('orchestrator/status');
}

export const problems = computed<Problem[]>(() => {
  if (!isKnown.value) return [];
  const found = [...ofEngines(), ...ofVpns(), ...ofLeaks(), ...ofStatus(), ...ofStreams(), ...ofStarts()];
  const order = { bad: 0, warn: 1 };
  return found.filter((one) => !dismissed.value.has(one.key)).sort((one, other) => order[one.level] - order[other.level]);
});

function ofEngines(): Problem[] {
  const found: Problem[] = [];
  const all = engines.all.value;
  if (all.length === 0) found.push({ key: 'no-engines', level: 'bad', text: words.problem.noEngines, step: 'engines' });
  else if (all.every((engine) => engine.get('health_status') === 'unhealthy')) {
    found.push({ key: 'no-engine', level: 'bad', text: words.problem.noEngine, step: 'engines' });
  }
  for (const engine of all) {
    const [name, about] = [engine.get('container_name'), engine.id];
    if (engine.get('health_status') === 'unhealthy') {
      const text = words.problem.engineDown(name, engine.get('last_seen'));
      found.push({ key: `down:${about}`, level: 'warn', text, step: 'engines', about });
      continue;
    }
    const [runaway, why] = [engine.get('runaway'), engine.get('trust_reason')];
    if (runaway) found.push({ key: `runaway:${about}`, level: 'warn', text: words.problem.runaway(name, runaway), step: 'drain', about });
    const trust = engine.get('trust');
    if (why && (trust === 'ejected' || trust === 'suspected')) {
      found.push({ key: `trust:${about}`, level: 'warn', text: words.problem.distrust(name, why), step: 'engines', about });
    }
  }
  return found;
}

/** Whether the exit is an address of this house. */
export function isExposed({ ipv4, ipv6 }: LeakProof): boolean {
  return [ipv4, ipv6].some((proof) => proof.from_interfaces === 'same' || proof.from_host_public_ip === 'same');
}

/** Whether anything is known that it could be one of. */
export function isCompared({ ipv4, ipv6 }: LeakProof): boolean {
  return [ipv4, ipv6].some((proof) => proof.from_interfaces !== 'not_compared' || proof.from_host_public_ip !== 'not_compared');
}

function ofVpns(): Problem[] {
  const found: Problem[] = [];
  for (const vpn of vpns.all.value) {
    const [name, why] = [vpn.get('container'), vpn.get('reason') ?? ''];
    const add = (kind: string, level: Problem['level'], text: string) =>
      found.push({ key: `${kind}:${name}`, level, text, step: 'engines', about: name });
    if (isExposed(vpn.get('leak'))) add('exposed', 'bad', words.problem.vpnExposed(name));
    if (vpn.get('state') === 'down') {
      add('vpn', 'bad', words.problem.vpnDown(name, why, vpn.get('state_seconds'), vpn.get('engines').length));
    } else if (vpn.get('state') === 'unsure' && why) add('unsure', 'warn', words.problem.vpnUnsure(name, why));
    const blamed = vpn.get('blamed');
    if (blamed) add('blamed', 'warn', words.problem.vpnBlamed(name, blamed));
    for (const line of vpn.get('advice')) add(`advice:${line}`, 'warn', words.problem.advice(name, line));
  }
  return found;
}

/** Engines that were found outside of their VPN lately: each is removed at once, but somebody may have seen it. */
function ofLeaks(): Problem[] {
  const isFresh = (event: Happened) => event.event_type === 'vpn' && event.category === 'leak' && now.value - Date.parse(event.timestamp) < FAILED_MS;
  return happened.value.filter(isFresh).map((event) => (
    { key: `leak:${event.timestamp}`, level: 'bad', text: words.problem.leak(event.message, event.timestamp), step: 'history', dismissable: true }
  ));
}

function ofStatus(): Problem[] {
  const found: Problem[] = [];
  const seen = status.value;
  if (totals.value.slots_waiting > 0) {
    found.push({ key: 'queue', level: 'warn', text: words.problem.queue(totals.value.slots_waiting), step: 'engines' });
  }
  if (!seen) return found;
  const blocked = seen.provisioning.blocked_reason_details?.code;
  // That there are as many engines as may be is as it should be, unless somebody waits.
  if (blocked && blocked !== 'max_capacity' && seen.provisioning.blocked_reason) {
    found.push({ key: 'blocked', level: 'bad', text: words.problem.blocked(seen.provisioning.blocked_reason), step: 'engines' });
  }
  if (seen.docker.state === 'down') {
    found.push({ key: 'docker', level: 'bad', text: words.problem.docker(seen.docker.why), step: 'engines' });
  }
  for (const line of seen.warnings) found.push({ key: `warning:${line}`, level: 'warn', text: line, step: 'engines' });
  return found;
}

function ofStreams(): Problem[] {
  const found: Problem[] = [];
  for (const stream of streams.all.value) {
    const verdict = stream.get('verdict');
    if (verdict === 'smooth' || verdict === 'starting') continue;
    const text = words.problem.stream(streamName(stream.id), words.verdict[verdict] ?? verdict, stream.get('verdict_reason'));
    found.push({ key: `stream:${stream.id}`, level: verdict === 'vpn_down' ? 'bad' : 'warn', text, step: 'move', about: stream.id });
  }
  // An interruption is told at once, before the next look says what becomes of it.
  for (const [id, event] of newest('interrupted', 'recovered', 'ended', 'leaving')) {
    const isOpen = event.category === 'interrupted' && now.value - Date.parse(event.timestamp) < 30_000;
    const live = streams.all.value.find((stream) => stream.id === id || stream.get('infohash') === id);
    if (isOpen && live && live.get('verdict') === 'smooth') {
      const text = words.problem.interrupted(streamName(id), reason(event), event.timestamp);
      found.push({ key: `interrupted:${id}`, level: 'warn', text, step: 'move', about: live.id });
    }
  }
  return found;
}

function ofStarts(): Problem[] {
  const found: Problem[] = [];
  for (const [id, event] of newest('failed', 'started')) {
    if (event.category !== 'failed' || now.value - Date.parse(event.timestamp) > FAILED_MS) continue;
    const text = words.problem.notStarted(streamName(id), reason(event), event.timestamp);
    found.push({ key: `failed:${id}:${event.timestamp}`, level: 'warn', text, step: 'again', about: id, dismissable: true });
  }
  return found;
}

/** The newest event of these for each stream. */
function newest(...categories: string[]): Map<string, Happened> {
  const found = new Map<string, Happened>();
  for (const event of happened.value) {
    const id = event.stream_id;
    if (id && event.event_type === 'stream' && categories.includes(event.category) && !found.has(id)) found.set(id, event);
  }
  return found;
}

/** What stands behind the colon of a message. */
function reason(event: Happened): string {
  const [, ...rest] = event.message.split(': ');
  return rest.join(': ') || event.message;
}

/** An event as a sentence, with the names that people know. */
export function sentence(event: Happened): string {
  const details = event.details ?? {};
  if (event.category === 'recovered' && typeof details.gap_ms === 'number') {
    const how = words.event.how[String(details.healed)] ?? '';
    const gap = details.gap_ms < 1000 ? `${Math.round(details.gap_ms)} ms` : `${(details.gap_ms / 1000).toFixed(1)} s`;
    return words.event.healed(event.container_id ? engineName(event.container_id) : '', gap, how);
  }
  return event.message + (event.event_type === 'stream' && event.container_id ? ` (${engineName(event.container_id)})` : '');
}
