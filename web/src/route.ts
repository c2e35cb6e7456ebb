// Which page is shown: what stands behind the hash, so that it works under any path.
import { signal } from '@preact/signals';

export const PAGES = ['now', 'engines', 'history', 'variants', 'settings', 'help'] as const;
export type Page = (typeof PAGES)[number];

function read(): { page: Page; query: URLSearchParams } {
  const [path = '', query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const page = PAGES.find((known) => known === path) ?? 'now';
  return { page, query: new URLSearchParams(query) };
}

export const route = signal(read());
window.addEventListener('hashchange', () => (route.value = read()));

export const to = (page: Page, query: Record<string, string> = {}) => {
  const asked = new URLSearchParams(query).toString();
  return `#/${page}${asked ? `?${asked}` : ''}`;
};
export const go = (page: Page, query: Record<string, string> = {}) => {
  location.hash = to(page, query);
};
