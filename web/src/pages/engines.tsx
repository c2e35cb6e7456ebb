// Engines, the VPNs that they are behind, and what will be done about them.
import { useComputed } from '@preact/signals';
import { useEffect, useState } from 'preact/hooks';
import { drain, remove, undrain } from '../actions';
import { change, get, id as part, why } from '../call';
import { bytes, rate } from '../format';
import { engines, happened, isKnown, streams as playing, vpns } from '../live/state';
import type { Entity } from '../live/table';
import { streamName } from '../names';
import { Button, Dialog, Field, Slots, State, T, When } from '../parts/basics';
import { asOperator } from '../parts/windows';
import { lookAtPlan, plan } from '../plan';
import { isCompared, isExposed, status } from '../problems';
import { isOperator } from '../session';
import { attempt, tell } from '../toast';
import type { Engine, EngineStats, Plan, Provisioned, Vpn } from '../types';
import { words } from '../words';

const own = words.engines;

export function Engines() {
  const all = engines.all.value;
  const exits = vpns.all.value;
  const outside = all.filter((engine) => !exits.some((vpn) => vpn.id === engine.get('vpn_container')));
  useEffect(lookAtPlan, []);
  const usage = useUsage();
  return (
    <>
      <h1>{own.title}</h1>
      <PlanOf plan={plan.value} />
      {exits.map((vpn) => (
        <Exit key={vpn.id} vpn={vpn}>{all.filter((engine) => engine.get('vpn_container') === vpn.id).map((engine) => <Row key={engine.id} engine={engine} plan={plan.value ?? null} usage={usage} />)}</Exit>
      ))}
      {outside.length > 0 && (
        <section aria-label={own.direct}>
          <header class="section-head"><h2>{exits.length ? own.direct : own.engines(outside.length)}</h2></header>
          <ul class="engines">{outside.map((engine) => <Row key={engine.id} engine={engine} plan={plan.value ?? null} usage={usage} />)}</ul>
        </section>
      )}
      {isKnown.value && all.length === 0 && <div class="empty"><p>{own.none}</p>{plan.value === null && <p><small>{own.noneHint}</small></p>}</div>}
    </>
  );
}

const EVERY_MS = 5_000;

function useUsage(): Record<string, EngineStats> {
  const [seen, setSeen] = useState<Record<string, EngineStats>>({});
  useEffect(() => {
    const ask = () => void get<Record<string, EngineStats>>('engines/stats/all').then(setSeen, () => {});
    ask();
    const timer = setInterval(() => document.visibilityState === 'visible' && ask(), EVERY_MS);
    return () => clearInterval(timer);
  }, []);
  return seen;
}


function PlanOf({ plan }: { plan: Plan | null | undefined }) {
  const [count, setCount] = useState<string | null>(null);
  if (plan === undefined) return null;
  if (plan === null) return <section class="plan"><h2>{own.plan}</h2><p>{own.foreign}</p></section>;
  const submit = (event: Event) => {
    event.preventDefault();
    const asked = Number(count ?? plan.min);
    asOperator(() => void attempt(() => change('POST', `scale/${asked}`), own.scaled(asked)))();
    setCount(null);
  };
  const add = () =>
    void attempt(async () => {
      const made = await change<Provisioned>('POST', 'provision/acestream', {});
      tell(own.added(made?.container_name ?? ''));
    });
  const isTripped = (status.value?.provisioning.circuit_breaker_state ?? 'closed') !== 'closed';
  return (
    <section class="plan" aria-labelledby="plan-title">
      <h2 id="plan-title">{own.plan}</h2>
      {plan.next.length + plan.waits.length === 0 && <p>{own.planNone}</p>}
      <ul class="sentences">
        {plan.next.map((line) => <li key={line}><b>{own.planNext}</b>: {line}</li>)}
        {plan.waits.map((line) => <li key={line}><b>{own.planWaits}</b>: {line}</li>)}
      </ul>
      <form class="inline" onSubmit={submit}>
        <Field label={own.scale}>{(id) => <input id={id} type="number" min={plan.min_replicas} max={plan.max} value={count ?? plan.min} onInput={(event) => setCount(event.currentTarget.value)} />}</Field>
        <button class="button" type="submit">{own.scaleGo}</button>
        <Button onClick={asOperator(add)}>{own.add}</Button>
        {isTripped && <Button onClick={asOperator(() => void attempt(() => change('POST', 'health/circuit-breaker/reset'), own.resetDone))}>{own.reset}</Button>}
      </form>
    </section>
  );
}

function Exit({ vpn, children }: { vpn: Entity<Vpn>; children: preact.ComponentChildren }) {
  const state = vpn.get('state');
  const exposed = isExposed(vpn.get('leak'));
  const place = [vpn.get('provider'), vpn.get('city'), vpn.get('country')].filter(Boolean).join(', ');
  const port = vpn.get('forwarded_port');
  return (
    <section class="exit" aria-label={vpn.id}>
      <header class="section-head">
        <h2>{vpn.id}</h2>
        <State state={state} word={own.vpnState[state] ?? state} />
        {vpn.get('reason') && <span>{vpn.get('reason')}</span>}
      </header>
      <dl class="facts">
        <div><dt>{own.exit}</dt><dd>{vpn.get('public_ip') ?? '–'}</dd></div>
        <div><dt>{own.port}</dt><dd>{port ?? own.noPort}</dd></div>
        {place && <div><dt>{own.place}</dt><dd>{place}</dd></div>}
        <div><dt>{own.leak}</dt><dd>{exposed ? <State state="down" word={own.leakBad} /> : isCompared(vpn.get('leak')) ? own.leakFine : own.leakUnknown}</dd></div>
        <div><dt>{own.checked}</dt><dd><When at={vpn.get('last_check')} as="ago" /></dd></div>
      </dl>
      <ul class="engines">{children}</ul>
    </section>
  );
}

/** Health, or that it is drained. */
function stateOf(engine: Entity<Engine>): { state: string; word: string } {
  if (engine.get('cordoned')) return { state: 'draining', word: own.state.draining };
  const health = engine.get('health_status');
  return { state: health, word: own.state[health as 'healthy'] ?? health };
}

/** Peers and speeds of all that it plays, as the engine tells them: in KiB a second. */
function swarm(engine: Entity<Engine>): string {
  const all = engine.get('streams').flatMap((id) => playing.get(id) ?? []);
  const sum = (field: 'peers' | 'speed_down' | 'speed_up') => all.reduce((total, stream) => total + (stream.get(field) ?? 0), 0);
  const speed = (field: 'speed_down' | 'speed_up') => rate(sum(field) * 1024 * 8);
  return own.swarm(sum('peers'), speed('speed_down'), speed('speed_up'));
}

/** What its creation was for, as the history has it. */
function whyCreated(name: string): string {
  const event = happened.value.find((one) => one.category === 'creating' && one.details.name === name);
  return event?.message.split(': ').slice(1).join(': ') ?? '';
}

function Row({ engine, plan, usage }: { engine: Entity<Engine>; plan: Plan | null; usage: Record<string, EngineStats> }) {
  const [logs, setLogs] = useState(false);
  const name = engine.get('container_name');
  const shown = useComputed(() => stateOf(engine)).value;
  const isOurs = plan?.containers.some((container) => container.id === engine.id) ?? false;
  const used = usage[engine.id];
  const streams = engine.get('streams');
  const trust = own.trust[engine.get('trust')] ?? engine.get('trust');
  const reason = whyCreated(name);
  const slots = own.slots(engine.get('slots_used'), engine.get('slots_total'));
  return (
    <li class={`engine is-${shown.state}`} data-row data-engine={engine.id}>
      <div class="engine-line">
        <h3 tabIndex={-1} data-row-button>{name}</h3>
        <State {...shown} />
        <span class="engine-slots"><Slots used={engine.get('slots_used')} total={engine.get('slots_total')} label={slots} /> <small>{slots}</small></span>
        <span class="buttons">
          {isOurs && isOperator.value && <Button kind="quiet" onClick={() => setLogs(true)} label={own.logsOf(name)}>{own.logs}</Button>}
          {engine.get('cordoned') ? (
            <Button onClick={asOperator(() => void undrain(engine.id))} label={`${own.undrain}: ${name}`}>{own.undrain}</Button>
          ) : (
            <Button onClick={asOperator(() => drain(engine.id))} label={`${isOurs ? own.drain : own.drainOnly}: ${name}`}>{isOurs ? own.drain : own.drainOnly}</Button>
          )}
          {isOurs && <Button kind="danger" onClick={asOperator(() => remove(engine.id))} label={`${own.remove}: ${name}`}>{own.remove}</Button>}
        </span>
      </div>
      {(engine.get('trust_reason') || engine.get('runaway')) && <p class="note is-warn">{[trust, engine.get('trust_reason'), engine.get('runaway')].filter(Boolean).join(': ')}</p>}
      <dl class="facts">
        <div><dt>{own.streams}</dt><dd>{streams.length ? streams.map((id) => streamName(id)).join(', ') : own.idle}</dd></div>
        {streams.length > 0 && <div><dt>{words.stream.swarm}</dt><dd><T of={() => swarm(engine)} /></dd></div>}
        <div><dt>{own.version}</dt><dd>{engine.get('version') ?? '–'}</dd></div>
        {engine.get('engine_variant') && <div><dt>{own.variant}</dt><dd>{engine.get('engine_variant')}</dd></div>}
        <div><dt>{own.seen}</dt><dd><When at={engine.get('last_seen')} as="ago" /></dd></div>
        <div><dt>{own.since}</dt><dd><When at={engine.get('first_seen')} as="ago" /></dd></div>
        {engine.get('forwarded') && <div><dt>{own.port}</dt><dd>{engine.get('forwarded_port') ?? ''} {own.forwarded}</dd></div>}
        {reason && <div><dt>{own.reason}</dt><dd>{reason}</dd></div>}
        {used && <div><dt>{own.cpu}</dt><dd>{used.cpu_percent.toFixed(0)} %</dd></div>}
        {used && <div><dt>{own.memory}</dt><dd>{bytes(used.memory_usage)}</dd></div>}
        <div><dt>id</dt><dd class="id"><T of={() => engine.id.slice(0, 24)} /></dd></div>
      </dl>
      {logs && <Log id={engine.id} name={name} onClose={() => setLogs(false)} />}
    </li>
  );
}

function Log({ id, name, onClose }: { id: string; name: string; onClose: () => void }) {
  const [lines, setLines] = useState<string | null>(null);
  useEffect(() => void get<{ log: string[] }>(`engines/${part(id)}/logs`).then(({ log }) => setLines(log.join('\n')), (error: unknown) => setLines(why(error))), [id]);
  return <Dialog title={own.logsOf(name)} onClose={onClose} kind="broad"><pre class="log" tabIndex={0}>{lines === null ? '…' : lines || own.noLogs}</pre></Dialog>;
}
