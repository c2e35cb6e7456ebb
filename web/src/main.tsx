import { effect } from '@preact/signals';
import { render } from 'preact';
import { App } from './app';
import { get } from './call';
import { begin } from './live/connection';
import { now, pictures, remember } from './live/state';
import { lookAtStatus } from './problems';
import { lookAtNames } from './names';
import { look } from './session';
import { lookAtVersion } from './version';
import { keepFocus } from './focus';
import { lookAtHealed } from './healed';
import type { Happened } from './types';
import './style.css';

/** What comes by no event is looked at so often. */
const STATUS_MS = 10_000;

const quietly = (what: () => Promise<unknown>) => void what().catch(() => {});

setInterval(() => (now.value = Date.now()), 1_000);
begin();
// At the beginning, and whenever the server may be another one than before.
effect(() => {
  void pictures.value;
  quietly(look);
  quietly(async () => remember(await get<Happened[]>('events?limit=200')));
  quietly(lookAtStatus);
  quietly(lookAtNames);
  quietly(lookAtVersion);
  quietly(lookAtHealed);
});
setInterval(() => document.visibilityState === 'visible' && quietly(lookAtStatus), STATUS_MS);
const app = document.getElementById('app');
if (app) {
  render(<App />, app);
  keepFocus(app);
}
