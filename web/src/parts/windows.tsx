// Windows that any page opens: one at a time.
import { signal } from '@preact/signals';
import { useEffect, useState } from 'preact/hooks';
import { copy, isLocal } from '../actions';
import { media, players } from '../addresses';
import { change, get, why } from '../call';
import { player } from '../agents';
import { streamName } from '../names';
import { giveName, isOperator, logIn, logOut, session, type Whose } from '../session';
import { attempt } from '../toast';
import type { Login } from '../types';
import { loaded } from '../version';
import { words } from '../words';
import { Button, Dialog, Field, When } from './basics';
import { watch } from './player';

export type Open =
  | { is: 'login' }
  | { is: 'name'; of: Whose; what: string; now: string }
  | { is: 'copy'; id: string }
  | { is: 'paste'; ids: string[] }
  | { is: 'menu'; title: string; items: Item[] }
  | { is: 'keys' };
export interface Item { label: string; icon?: string; run: () => void; disabled?: boolean; kind?: string }

export const open = signal<Open | null>(null);
export const close = () => (open.value = null);
/** Asks for the key first where that is needed. */
export const asOperator = (what: () => void) => () => (isOperator.value ? what() : (open.value = { is: 'login' }));

export function Windows() {
  const shown = open.value;
  if (!shown) return null;
  if (shown.is === 'login') return <LoginWindow />;
  if (shown.is === 'name') return <NameWindow of={shown.of} what={shown.what} now={shown.now} />;
  if (shown.is === 'copy') return <Dialog key="copy" title={words.stream.copy} onClose={close}><Addresses id={shown.id} /></Dialog>;
  if (shown.is === 'paste') return <PasteWindow ids={shown.ids} />;
  if (shown.is === 'keys') return <Dialog key="keys" title={words.help.keys} onClose={close}><KeyList /></Dialog>;
  return (
    <Dialog key="menu" title={shown.title} onClose={close} kind="sheet">
      <ul class="menu">
        {shown.items.map((item) => (
          <li key={item.label}>
            <Button icon={item.icon ?? 'chevron'} kind={`wide ${item.kind ?? ''}`} disabled={item.disabled ?? false} onClick={() => { close(); item.run(); }}>{item.label}</Button>
          </li>
        ))}
      </ul>
    </Dialog>
  );
}

function LoginWindow() {
  const [key, setKey] = useState('');
  const [error, setError] = useState('');
  const state = session.value;
  const submit = async (event: Event) => {
    event.preventDefault();
    setError('');
    try {
      await logIn(key);
      close();
    } catch (failure) {
      setError((failure as { code?: string }).code === 'wrong_key' ? words.login.wrong : why(failure));
    }
  };
  if (state?.operator) return <Dialog title={words.login.sessions} onClose={close}><Sessions /></Dialog>;
  return (
    <Dialog title={words.login.title} onClose={close}>
      {state && !state.possible ? (
        <><p><strong>{words.login.impossible}</strong></p><p>{words.login.how}</p></>
      ) : (
        <form onSubmit={submit}>
          <p>{words.login.why}</p>
          <Field label={words.login.label} hint={words.login.where}>
            {(id) => (
              <input id={id} type="password" autocomplete="current-password" required value={key} aria-invalid={error !== ''}
                onInput={(event) => setKey(event.currentTarget.value)} />
            )}
          </Field>
          <p role="alert" class="error">{error}</p>
          <button class="button main" type="submit">{words.login.go}</button>
        </form>
      )}
    </Dialog>
  );
}

function Sessions() {
  const [all, setAll] = useState<Login[] | null>(null);
  const load = () => attempt(async () => setAll((await get<{ logins: Login[] }>('logins')).logins));
  useEffect(() => void load(), []);
  const by = session.value?.by;
  return (
    <>
      <p>{by === 'this_machine' ? words.login.machine : words.login.byKey}</p>
      {all?.length === 0 && <p>{words.login.noSessions}</p>}
      {!!all?.length && (
        <ul class="list">
          {all.map((login) => (
            <li key={login.id}>
              <span><b>{player(login.user_agent)}</b>{login.this && ` (${words.login.this})`}<br /><small>{login.address}, {words.login.columns.used} <When at={login.used_at} /></small></span>
              {!login.this && <Button onClick={() => attempt(async () => { await change('DELETE', `logins/${encodeURIComponent(login.id)}`); await load(); })}>{words.login.endOther}</Button>}
            </li>
          ))}
        </ul>
      )}
      {by === 'login' && <Button kind="main" onClick={() => { close(); void attempt(logOut); }}>{words.login.end}</Button>}
    </>
  );
}

function NameWindow({ of, what, now }: { of: Whose; what: string; now: string }) {
  const [name, setName] = useState(now);
  const submit = (event: Event) => {
    event.preventDefault();
    close();
    void attempt(() => giveName(of, name.trim()));
  };
  return (
    <Dialog title={words.name_.title(what)} onClose={close}>
      <form onSubmit={submit}>
        <Field label={words.name_.label} hint={words.name_.hint}>
          {(id) => <input id={id} value={name} maxLength={64} onInput={(event) => setName(event.currentTarget.value)} />}
        </Field>
        <button class="button main" type="submit">{words.actions.save}</button>
      </form>
    </Dialog>
  );
}

/** The address of a stream for each player. */
export function Addresses({ id }: { id: string }) {
  const [qr, setQr] = useState<{ of: string; path: string; size: number } | null>(null);
  const show = async (name: string, text: string) => {
    if (qr?.of === name) return setQr(null);
    const { encode } = await loaded(import('uqr'));
    const { data, size } = encode(text, { border: 2 });
    const path = data.flatMap((row, y) => row.map((dark, x) => (dark ? `M${x} ${y}h1v1h-1z` : ''))).join('');
    setQr({ of: name, path, size });
  };
  return (
    <>
      {isLocal(media(id)) && <p class="note is-warn">{words.actions.copyLocal}</p>}
      <ul class="list addresses">
        {players.map(({ name, line, isAddress, note }) => (
          <li key={name}>
            <div>
              <b>{name}</b> <small>{note}</small>
              <pre class="address" tabIndex={0} aria-label={name}>{line(id)}</pre>
              {qr?.of === name && (
                <svg class="qr" viewBox={`0 0 ${qr.size} ${qr.size}`} role="img" aria-label={words.help.qrAlt(name)} shape-rendering="crispEdges">
                  <rect width={qr.size} height={qr.size} fill="#fff" /><path d={qr.path} fill="#000" />
                </svg>
              )}
            </div>
            <div class="buttons">
              <Button onClick={() => copy(line(id), name)} label={`${words.help.copy}: ${name}`}>{words.help.copy}</Button>
              {isAddress && <Button kind="quiet" onClick={() => void attempt(() => show(name, line(id)))} expanded={qr?.of === name} label={`${words.help.qr}: ${name}`}>{words.help.qr}</Button>}
            </div>
          </li>
        ))}
      </ul>
    </>
  );
}

function PasteWindow({ ids }: { ids: string[] }) {
  return (
    <Dialog title={ids.length > 1 ? words.paste.several(ids.length) : words.paste.title} onClose={close}>
      <ul class="list">
        {ids.slice(0, 50).map((id) => (
          <li key={id}>
            <span title={id}>{streamName(id)}<br /><small class="id">{id}</small></span>
            <span class="buttons">
              <Button icon="play" kind="main" onClick={() => { close(); watch(id); }}>{words.paste.watch}</Button>
              <Button onClick={() => (open.value = { is: 'copy', id })}>{words.paste.copy}</Button>
            </span>
          </li>
        ))}
      </ul>
    </Dialog>
  );
}

export function KeyList() {
  return (
    <dl class="keys">
      {words.help.keyList.map(([key, what]) => <div key={key}><dt><kbd>{key}</kbd></dt><dd>{what}</dd></div>)}
    </dl>
  );
}
