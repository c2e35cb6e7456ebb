// Whether the server has another page by now. Files of the old one, which are loaded when they are needed, are gone then.
import { signal } from '@preact/signals';
import { get } from './call';
import type { Health } from './types';

const own = document.querySelector<HTMLScriptElement>('script[type="module"][src]')?.src.split('/').pop();

/** This page is older than the server. */
export const isOld = signal(false);
/** When the server began, by this browser's clock. */
export const upSince = signal<number | null>(null);

export async function lookAtVersion() {
  const { uptime_seconds } = await get<Health>('health');
  upSince.value = Date.now() - uptime_seconds * 1000;
  const page = await fetch(new URL('.', document.baseURI), { cache: 'no-cache', signal: AbortSignal.timeout(20_000) });
  if (page.ok && own) isOld.value = !(await page.text()).includes(own);
}

/** For what is loaded later: when it is not there, the page may be old. */
export async function loaded<T>(part: Promise<T>): Promise<T> {
  try {
    return await part;
  } catch (error) {
    void lookAtVersion().catch(() => {});
    throw error;
  }
}
