// Every setting: what it is, where that comes from, what it means. What the API lets be changed is changed here.
import { useEffect, useState } from 'preact/hooks';
import { copy } from '../actions';
import { change, get, id as part, Refused } from '../call';
import { Button, Dialog, Field, Icon } from '../parts/basics';
import { asOperator, open } from '../parts/windows';
import { isOperator } from '../session';
import { attempt } from '../toast';
import type { Setting, SettingList } from '../types';
import { words } from '../words';

const own = words.settings;

export function Settings() {
  const [all, setAll] = useState<Setting[] | null>(null);
  const [error, setError] = useState('');
  const [find, setFind] = useState('');
  const [edited, setEdited] = useState<Setting | null>(null);
  const operator = isOperator.value;
  const load = () =>
    get<SettingList>('settings').then(
      (page) => setAll(page.settings),
      (failure: unknown) => setError(failure instanceof Refused && failure.status === 404 ? own.unavailable : failure instanceof Error ? failure.message : ''),
    );
  useEffect(() => {
    if (operator) void load();
  }, [operator]);
  const wanted = find.trim().toLowerCase();
  const shown = (all ?? []).filter((one) => !one.alias_of && (!wanted || `${one.name} ${one.meaning} ${one.group}`.toLowerCase().includes(wanted)));
  const groups = [...new Set(shown.map((one) => one.group))];
  return (
    <>
      <header class="section-head">
        <h1>{own.title}</h1>
        {all && (
          <>
            <label class="find"><Icon name="find" /><span class="offscreen">{own.find}</span><input data-find type="search" placeholder={`${words.header.find}  /`} value={find} onInput={(event) => setFind(event.currentTarget.value)} /></label>
            <Button onClick={() => void copy(asEnv(all), '.env')}>{own.copyEnv}</Button>
          </>
        )}
      </header>
      {!operator && <p class="empty">{own.login} <Button onClick={() => (open.value = { is: 'login' })}>{words.header.login}</Button></p>}
      {operator && !all && <p class="empty" role="status">{error || '…'}</p>}
      {all && shown.length === 0 && <p class="empty">{own.none}</p>}
      {groups.map((group) => (
        <section key={group} aria-labelledby={`group-${group}`}>
          <h2 id={`group-${group}`}>{group}</h2>
          <ul class="settings">{shown.filter((one) => one.group === group).map((one) => <Row key={one.name} one={one} edit={() => setEdited(one)} />)}</ul>
        </section>
      ))}
      {edited && <Editor key={edited.name} one={edited} onClose={() => setEdited(null)} onSaved={() => { setEdited(null); void load(); }} />}
    </>
  );
}

const said = (value: string | null | undefined) => (value == null || value === '' ? own.empty : value);

function Row({ one, edit }: { one: Setting; edit: () => void }) {
  const isOther = one.source !== 'default';
  return (
    <li class={isOther ? 'is-set' : ''} data-row data-setting={one.name}>
      <div>
        <h3 tabIndex={-1} data-row-button><code>{one.name}</code></h3>
        <p class="meaning">{one.meaning}</p>
      </div>
      <dl>
        <div><dt>{own.columns.value}</dt><dd><b>{one.secret && one.value ? own.hidden : said(one.value)}</b></dd></div>
        {one.coming && <div><dt>{own.restart}</dt><dd><b>{one.secret ? own.hidden : said(one.coming.value)}</b></dd></div>}
        <div><dt>{own.columns.source}</dt><dd>{isOther ? one.place : own.columns.def}</dd></div>
        {isOther && <div><dt>{own.columns.def}</dt><dd>{said(one.default)}</dd></div>}
      </dl>
      {one.changeable ? <Button onClick={asOperator(edit)} label={`${own.change}: ${one.name}`}>{own.change}</Button> : <small class="why-not">{one.why_not}</small>}
    </li>
  );
}

function Editor({ one, onClose, onSaved }: { one: Setting; onClose: () => void; onSaved: () => void }) {
  const [value, setValue] = useState(one.secret ? '' : (one.coming?.value ?? one.value ?? ''));
  const [error, setError] = useState('');
  const submit = async (event: Event) => {
    event.preventDefault();
    try {
      await change('PUT', `settings/${part(one.name)}`, { value });
      await attempt(async () => onSaved(), own.saved(one.name));
    } catch (failure) {
      setError(failure instanceof Error ? failure.message : String(failure));
    }
  };
  const back = () => void attempt(async () => { await change('DELETE', `settings/${part(one.name)}`); onSaved(); }, own.saved(one.name));
  return (
    <Dialog title={one.name} onClose={onClose}>
      <form onSubmit={submit}>
        <p>{one.meaning}</p>
        <Field label={own.columns.value} hint={[one.accepts, one.range, one.applies === 'after_restart' ? own.restart : own.now].filter(Boolean).join('. ')}>
          {(id) =>
            one.choices.length ? (
              <select id={id} value={value} onChange={(event) => setValue(event.currentTarget.value)}>{one.choices.map((choice) => <option key={choice} value={choice}>{choice}</option>)}</select>
            ) : (
              <input id={id} type={(one.secret ? 'password' : 'text') as 'text'} autocomplete="off" value={value} aria-invalid={error !== ''} onInput={(event) => setValue(event.currentTarget.value)} />
            )}
        </Field>
        <p role="alert" class="error">{error}</p>
        <span class="buttons">
          <button class="button main" type="submit">{words.actions.save}</button>
          {one.overridden && <Button onClick={back}>{own.reset}</Button>}
        </span>
      </form>
    </Dialog>
  );
}

/** Lines of an environment file: what is set, and the rest as comments. */
export function asEnv(all: readonly Setting[]): string {
  const quoted = (value: string) => (/^[\w.,:/@%+-]*$/.test(value) ? value : `"${value.replace(/(["\\$`])/g, '\\$1')}"`);
  const line = (one: Setting) => {
    if (one.secret) return `# ${one.name}=`;
    const text = `${one.name}=${quoted(one.value ?? '')}`;
    return one.source === 'default' ? `# ${text}` : text;
  };
  return all.filter((one) => !one.alias_of).map(line).join('\n') + '\n';
}
