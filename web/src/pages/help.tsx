// Addresses for this host, what the doctor says, what a bug report needs.
import { useState } from 'preact/hooks';
import { idsIn } from '../addresses';
import { get, url } from '../call';
import { happened, picture, streams } from '../live/state';
import { streamName } from '../names';
import { Button, Field, Icon } from '../parts/basics';
import { Addresses, asOperator, KeyList } from '../parts/windows';
import { attempt } from '../toast';
import type { Setting, SettingList } from '../types';
import { words } from '../words';

const own = words.help;
/** The id that the guide prints. */
const EXAMPLE = '94c2fd8fb9bc8f2fc71a9c1b9b7a5a8f0a2e3f4d';

export function Help() {
  const [text, setText] = useState('');
  const id = idsIn(text)[0] ?? streams.all.value[0]?.id ?? EXAMPLE;
  return (
    <>
      <h1>{own.title}</h1>
      <section aria-labelledby="players-title">
        <h2 id="players-title">{own.players}</h2>
        <p>{own.playersHint}</p>
        <Field label={own.id} hint={words.now.nobodyHint}>
          {(field) => (
            <>
              <input id={field} list="ids" value={text} placeholder={id} spellcheck={false} autocomplete="off" onInput={(event) => setText(event.currentTarget.value)} />
              <datalist id="ids">{streams.all.value.map((stream) => <option key={stream.id} value={stream.id}>{streamName(stream.id)}</option>)}</datalist>
            </>
          )}
        </Field>
        <Addresses key={id} id={id} />
      </section>
      <Doctor />
      <section aria-labelledby="bundle-title">
        <h2 id="bundle-title">{own.bundle}</h2>
        <p>{own.bundleHint}</p>
        <Button onClick={asOperator(() => void attempt(saveBundle))}>{own.bundleGo}</Button>
      </section>
      <section aria-labelledby="api-title">
        <h2 id="api-title">{own.api}</h2>
        <p>{own.apiHint}</p>
        <ul class="links">
          <li><a href={url('docs')}>{own.docs}</a></li>
          <li><a href={url('openapi.json')}>{own.openapi}</a></li>
          <li><a href={url('metrics')}>{own.metrics}</a></li>
          <li><a href={url('status')}>{own.plain}</a></li>
        </ul>
      </section>
      <section aria-labelledby="keys-title"><h2 id="keys-title">{own.keys}</h2><KeyList /></section>
    </>
  );
}

interface Finding { check: string; about: string | null; verdict: 'ok' | 'warning' | 'fault'; message: string; remedy: string | null }

function Doctor() {
  const [report, setReport] = useState<{ healthy: boolean; checks: Finding[] } | null>(null);
  const [isBusy, setIsBusy] = useState(false);
  const run = () =>
    void attempt(async () => {
      setIsBusy(true);
      try {
        setReport(await get('doctor'));
      } finally {
        setIsBusy(false);
      }
    });
  return (
    <section aria-labelledby="doctor-title">
      <h2 id="doctor-title">{own.doctor}</h2>
      <Button onClick={asOperator(run)} disabled={isBusy}>{isBusy ? own.doctorRunning : own.doctorRun}</Button>
      <div aria-live="polite">
        {report?.healthy && <p>{own.doctorFine}</p>}
        {report && (
          <ul class="timeline findings">
            {report.checks.map((one, at) => (
              <li key={at} class={`is-${MARKS[one.verdict]}`}>
                <Icon name={MARKS[one.verdict]} />
                <span><b>{[one.check, one.about].filter(Boolean).join(' ')}</b>: {one.message}{one.remedy && <><br /><small>{own.mend}: {one.remedy}</small></>}</span>
              </li>
            ))}
          </ul>
        )}
      </div>
    </section>
  );
}

const MARKS = { ok: 'ok', warning: 'warn', fault: 'bad' };

/** Names of what could tell who somebody is, or open something. */
const SECRET = /key|token|password|secret|cookie|address|user_agent|public_ip|^exit$/i;

/** Settings whose values say who somebody is. */
const PERSONAL = /_USER$|_HOSTS$|_URL$|PUBLIC_IP/;

const IPV4 = /\b\d{1,3}(?:\.\d{1,3}){3}\b/g;
const IPV6 = /(?<![0-9a-f:])[23][0-9a-f]{3}:[0-9a-f:]{2,}/gi;
/** Addresses that say nothing about where somebody is. */
const PRIVATE = /^(?:0|10|127|169\.254|172\.(?:1[6-9]|2\d|3[01])|192\.168|255)\./;
const GONE = '(removed)';

const withoutAddresses = (text: string) =>
  text.replace(IPV4, (address) => (PRIVATE.test(address) ? address : GONE)).replace(IPV6, GONE);

/** Without what a stranger should not read. */
export function withoutSecrets(value: unknown, name = ''): unknown {
  if (SECRET.test(name)) return value == null || value === '' ? value : GONE;
  if (typeof value === 'string') return withoutAddresses(value);
  if (Array.isArray(value)) return value.map((one) => withoutSecrets(one));
  if (value && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, withoutSecrets(one, key)]));
  return value;
}

const PARTS = ['health', 'orchestrator/status', 'health/status', 'vpn/status', 'engines', 'engines/stats/all', 'proxy/status', 'plan', 'history?span=hours', 'doctor'];

/** What a setting is where it says who somebody is: that it is set, and no more. */
const unnamed = (one: Setting): Setting => (PERSONAL.test(one.name) ? { ...one, value: one.value && GONE, coming: one.coming && { ...one.coming, value: GONE } } : one);
const settings = async () => (await get<SettingList>('settings')).settings.map(unnamed);

async function saveBundle() {
  const failed = (error: unknown) => ({ failed: String(error) });
  const parts = await Promise.all(PARTS.map(async (path) => [path, await get(path).catch(failed)] as const));
  const events = happened.value.filter((event) => event.category !== 'audit');
  const bundle = withoutSecrets({ made_at: new Date().toISOString(), browser: { language: navigator.language }, live: picture(), ...Object.fromEntries(parts), settings: await settings().catch(failed), events });
  const file = new Blob([JSON.stringify(bundle, null, 2)], { type: 'application/json' });
  const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(file), download: `acemux-diagnostics-${new Date().toISOString().slice(0, 19).replace(/:/g, '')}.json` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
