// The custom variant, parameter by parameter, and its templates.
import { useEffect, useState } from 'preact/hooks';
import { api, change, get } from '../call';
import { bytes } from '../format';
import { Button, Dialog, Field } from '../parts/basics';
import { asOperator } from '../parts/windows';
import { isOperator } from '../session';
import { attempt } from '../toast';
import type { Parameter, TemplateList, Variant } from '../types';
import { words } from '../words';

/** As the service answers it: with everything that a request may leave out. */
type Document_ = Variant & { parameters: Parameter[] };

const own = words.variants;

export function Variants() {
  const [kept, setKept] = useState<Document_ | null>(null);
  const [draft, setDraft] = useState<Document_ | null>(null);
  const [listing, setListing] = useState<TemplateList | null>(null);
  const load = () =>
    attempt(async () => {
      const [document, templates] = await Promise.all([get<Document_>('custom-variant/config'), get<TemplateList>('custom-variant/templates')]);
      setKept(document);
      setDraft(document);
      setListing(templates);
    });
  useEffect(() => void load(), []);
  const then = (what: () => Promise<unknown>, done?: string) => attempt(async () => { await what(); await load(); }, done);
  const isChanged = JSON.stringify(kept) !== JSON.stringify(draft);
  return (
    <>
      <h1>{own.title}</h1>
      {listing && <Templates listing={listing} draft={draft} then={then} />}
      {draft && (
        <section aria-labelledby="custom-title">
          <header class="section-head">
            <h2 id="custom-title">{own.custom}</h2>
            <span class="buttons">
              <Button kind="main" disabled={!isChanged} onClick={asOperator(() => void then(() => change('POST', 'custom-variant/config', draft), own.saved))}>{own.save}</Button>
              <Button disabled={!isChanged} onClick={() => setDraft(kept)}>{own.discard}</Button>
              <Button onClick={asOperator(() => void attempt(() => change('POST', 'custom-variant/reprovision'), own.replacing))}>{own.replace}</Button>
            </span>
          </header>
          <div class="facts">
            <label class="check"><input type="checkbox" checked={draft.enabled} onChange={(event) => setDraft({ ...draft, enabled: event.currentTarget.checked })} /> {own.enabled}</label>
            <p><small>{own.platform}</small><br />{draft.platform}{draft.platform.startsWith('arm') && ` ${draft.arm_version}`}</p>
            <Field label={own.memory}>{(id) => <input id={id} value={draft.memory_limit ?? ''} placeholder="512m" onInput={(event) => setDraft({ ...draft, memory_limit: event.currentTarget.value || null })} />}</Field>
          </div>
          <Parameters draft={draft} set={(parameters) => setDraft({ ...draft, parameters })} />
        </section>
      )}
    </>
  );
}

function Parameters({ draft, set }: { draft: Document_; set: (parameters: Parameter[]) => void }) {
  const edit = (name: string, fields: Partial<Parameter>) => set(draft.parameters.map((one) => (one.name === name ? { ...one, ...fields } : one)));
  return (
    <table class="parameters" role="table">
      <caption>{own.parameters}</caption>
      <thead><tr><th scope="col">{own.on}</th><th scope="col">{own.parameter}</th><th scope="col">{own.value}</th></tr></thead>
      <tbody>
        {draft.parameters.map((one) => (
          <tr key={one.name} class={one.enabled ? '' : 'off'}>
            <td><label class="check"><input type="checkbox" checked={one.enabled} aria-label={`${own.on}: ${one.name}`} onChange={(event) => edit(one.name, { enabled: event.currentTarget.checked })} /></label></td>
            <th scope="row"><code>{one.name}</code></th>
            <td><Value one={one} set={(value) => edit(one.name, { value })} /></td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Value({ one, set }: { one: Parameter; set: (value: Parameter['value']) => void }) {
  if (typeof one.value === 'boolean') {
    return <label class="check"><input type="checkbox" checked={one.value} disabled={!one.enabled} aria-label={one.name} onChange={(event) => set(event.currentTarget.checked)} /></label>;
  }
  if (typeof one.value === 'number') {
    return (
      <span class="inline">
        <input type="number" value={one.value} disabled={!one.enabled} aria-label={one.name} onInput={(event) => set(Number(event.currentTarget.value))} />
        {one.type === 'bytes' && <small>{bytes(one.value)}</small>}
      </span>
    );
  }
  const isToken = one.name.endsWith('token');
  return <input type={(isToken ? 'password' : 'text') as 'text'} autocomplete="off" value={one.value} disabled={!one.enabled} aria-label={one.name} onInput={(event) => set(event.currentTarget.value)} />;
}

function Templates({ listing, draft, then }: { listing: TemplateList; draft: Document_ | null; then: (what: () => Promise<unknown>, done?: string) => Promise<void> }) {
  const [naming, setNaming] = useState<{ slot: number; name: string; isNew: boolean } | null>(null);
  const path = (slot: number, more = '') => `custom-variant/templates/${slot}${more}`;
  const submit = (event: Event) => {
    event.preventDefault();
    if (!naming) return;
    const { slot, name, isNew } = naming;
    setNaming(null);
    void then(() => (isNew ? change('POST', path(slot), { name, config: draft }) : change('PATCH', path(slot, '/rename'), { name })));
  };
  return (
    <section aria-labelledby="templates-title">
      <h2 id="templates-title">{own.templates}</h2>
      <ul class="templates">
        {listing.templates.map(({ slot_id: slot, name, exists }) => (
          <li key={slot} class={exists ? '' : 'off'}>
            <p><small>{own.slot(slot)}</small><br /><b>{exists ? name : own.free}</b>{listing.active_template_id === slot && <> <State_ /></>}</p>
            <span class="buttons">
              {exists && <Button onClick={asOperator(() => void then(() => change('POST', path(slot, '/activate'))))} label={`${own.use}: ${name}`}>{own.use}</Button>}
              <Button kind="quiet" onClick={asOperator(() => setNaming({ slot, name: exists ? name : '', isNew: true }))} label={`${own.store}: ${own.slot(slot)}`}>{own.store}</Button>
              {exists && <Button kind="quiet" onClick={asOperator(() => setNaming({ slot, name, isNew: false }))} label={`${own.rename}: ${name}`}>{own.rename}</Button>}
              {exists && isOperator.value && <a class="button quiet" href={api(path(slot, '/export'))} download aria-label={`${own.exportIt}: ${name}`}>{own.exportIt}</a>}
              {exists && <Button kind="quiet danger" onClick={asOperator(() => void then(() => change('DELETE', path(slot))))} label={`${own.forget}: ${name}`}>{own.forget}</Button>}
            </span>
          </li>
        ))}
      </ul>
      {naming && (
        <Dialog title={own.slot(naming.slot)} onClose={() => setNaming(null)}>
          <form onSubmit={submit}>
            <Field label={own.nameOf}>{(id) => <input id={id} required maxLength={64} value={naming.name} onInput={(event) => setNaming({ ...naming, name: event.currentTarget.value })} />}</Field>
            <button class="button main" type="submit">{words.actions.save}</button>
          </form>
        </Dialog>
      )}
    </section>
  );
}

const State_ = () => <span class="tag">{own.active}</span>;
