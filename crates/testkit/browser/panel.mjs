// The dashboard in headless Chromium. Prints what came of it as one line of JSON, or what went wrong, and exits with 1.
//
//   node panel.mjs looks '{ "base": "http://127.0.0.1:8000/", "shots": "target/panel" }'
//
// | scene | needs | shows |
// |---|---|---|
// | looks | streams that play | every page at four widths, light, dark and in forced colours: axe, sideways scrolling, policy, screenshots |
// | acts | a key, a channel | login, a stream started and watched, a viewer named and kicked, a stream moved, an engine drained, logout |
// | fails | two engines | an engine dies, the service stops and comes back, eight tabs and a player, a selection survives |
// | loads | nothing | 100 streams and 500 viewers from a scripted source: processor and memory |
//
// What only the test around it can do it asks for: a line `> word` on standard output, answered by a line on standard input.
import { createServer } from 'node:http';
import { mkdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const [scene, text] = process.argv.slice(2);
const plan = JSON.parse(text);
const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const PAGES = ['now', 'engines', 'history', 'variants', 'settings', 'help'];
const began = Date.now();

const fail = (what) => { throw new Error(what); };
const say = (what) => console.error(`${((Date.now() - began) / 1000).toFixed(1)} s: ${what}`);

/** What only the test around this can do. */
async function ask(word) {
  console.log(`> ${word}`);
  return (await answers.next()).value;
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--autoplay-policy=no-user-gesture-required', '--disable-features=LocalNetworkAccessChecks', '--host-resolver-rules=MAP tv.local 127.0.0.1', '--js-flags=--expose-gc'],
});

/** A tab that tells of everything a page should not do. */
async function open(context, base = plan.base) {
  const page = await context.newPage();
  page.wrong = [];
  const origin = new URL(base).origin;
  page.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(origin) && !/^(blob|data):/.test(url)) page.wrong.push(`a request to ${url}`);
  });
  page.on('pageerror', (error) => page.wrong.push(`an error: ${error.message}`));
  page.on('console', (message) => {
    // What the server refuses is written there as well, and is expected where it is provoked.
    if (/Content Security Policy|Refused to/i.test(message.text())) page.wrong.push(`policy: ${message.text()}`);
  });
  await page.addInitScript(() => {
    window.policy = [];
    document.addEventListener('securitypolicyviolation', (event) => window.policy.push(`${event.violatedDirective} ${event.blockedURI}`));
  });
  await page.goto(`${base}panel/`);
  await page.waitForSelector('.beat.is-live', { timeout: 15_000 });
  return page;
}

async function isClean(page) {
  const policy = await page.evaluate(() => window.policy ?? []);
  if (policy.length + page.wrong.length) fail([...policy, ...page.wrong].join('; '));
}

const go = async (page, name) => {
  await page.evaluate((name) => { location.hash = `#/${name}`; }, name);
  await page.waitForSelector(`nav a[aria-current=page][href="#/${name}"]`);
};

/** What axe finds, a line each. */
async function findings(page) {
  if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(axe);
  return page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { resultTypes: ['violations'] });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => `${node.target.join(' ')} (${node.any[0]?.message ?? node.failureSummary})`).join(' | ')}`);
  });
}

/** Loads a channel and reads it as a player would, for as long as the scene lasts. */
function watch(id, agent) {
  const gone = new AbortController();
  const watching = (async () => {
    const answer = await fetch(`${plan.base}ace/getstream?id=${id}`, { signal: gone.signal, headers: { 'User-Agent': agent } });
    if (!answer.ok) return answer.status;
    try {
      for await (const _ of answer.body) { /* it plays */ }
      return 0;
    } catch {
      return -1;
    }
  })();
  return { end: () => gone.abort(), over: watching };
}

const SIZES = [[1440, 900], [844, 390], [390, 844], [320, 640]];
const LOOKS = [
  { name: 'light', media: { colorScheme: 'light', forcedColors: 'none' } },
  { name: 'dark', media: { colorScheme: 'dark', forcedColors: 'none' } },
  { name: 'forced', media: { colorScheme: 'dark', forcedColors: 'active' } },
];

async function looks() {
  await mkdir(plan.shots, { recursive: true });
  const viewers = plan.channels.flatMap((id) => [watch(id, 'VLC/3.0.21 LibVLC/3.0.21'), watch(id, 'Kodi/21.1 (Linux)')]);
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, reducedMotion: 'reduce' });
  const page = await open(context);
  const found = [];
  await page.waitForFunction((count) => document.querySelectorAll('[data-stream]').length >= count, plan.channels.length, { timeout: 20_000 });
  await page.waitForSelector('.state.is-ok', { timeout: 20_000 });
  await page.locator('[data-row-button]').first().click();
  await page.waitForSelector('.viewers tbody tr', { timeout: 5_000 });
  for (const name of PAGES) {
    await go(page, name);
    // What the page asks for has come.
    await page.waitForLoadState('networkidle').catch(() => {});
    await page.waitForTimeout(300);
    for (const [width, height] of SIZES) {
      await page.setViewportSize({ width, height });
      for (const { name: look, media } of LOOKS) {
        await page.emulateMedia(media);
        const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        if (over > 0) found.push(`${name} at ${width}, ${look}: ${over} px sideways`);
        // Contrast is of no account where the colours are the system's.
        for (const line of await findings(page)) if (look !== 'forced' || !line.startsWith('color-contrast')) found.push(`${name} at ${width}, ${look}: ${line}`);
        await page.screenshot({ path: `${plan.shots}/${name}-${width}-${look}.png` });
      }
    }
    await page.setViewportSize({ width: 1440, height: 900 });
    say(`${name} was looked at`);
  }
  const small = [...(await smallTargets(page))];
  await isClean(page);
  await context.close();
  viewers.forEach((viewer) => viewer.end());
  if (found.length + small.length) fail([...new Set(found), ...small].join('\n'));
  return { pages: PAGES.length, looks: SIZES.length * LOOKS.length };
}

/** Buttons and links of the frame and the pages that a finger misses. */
async function smallTargets(page) {
  const found = [];
  await page.setViewportSize({ width: 390, height: 844 });
  for (const name of PAGES) {
    await go(page, name);
    await page.waitForTimeout(150);
    found.push(...await page.evaluate((name) => [...document.querySelectorAll('button, a.button, nav a, select, input:not([type=checkbox]), summary')]
      .filter((one) => one.checkVisibility() && !one.classList.contains('offscreen-button'))
      .map((one) => [one, one.getBoundingClientRect()])
      .filter(([, box]) => box.width > 0 && (box.width < 43.5 || box.height < 43.5))
      .map(([one, box]) => `${name}: ${one.outerHTML.slice(0, 80)} is ${Math.round(box.width)} × ${Math.round(box.height)}`), name));
  }
  return found;
}

const press = (page, name) => page.getByRole('button', { name, exact: true }).first().click();
const advances = (page) => page.waitForFunction(() => {
  const video = document.querySelector('.player video');
  window.from ??= video?.currentTime || undefined;
  return video && window.from !== undefined && video.currentTime > window.from + 1.5;
}, null, { timeout: 30_000 });

async function acts() {
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 } });
  const page = await open(context);
  const channel = plan.channels[0];

  say('a wrong key, then the right one');
  await press(page, 'Log in');
  await page.getByLabel('API key').fill('not-the-key-of-this-house');
  await page.getByRole('dialog').getByRole('button', { name: 'Log in' }).click();
  await page.getByText('That is not the key.').waitFor();
  await page.getByLabel('API key').fill(plan.key);
  await page.getByRole('dialog').getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('dialog').waitFor({ state: 'detached' });

  say('pasted anywhere, played in the corner');
  await page.evaluate((text) => {
    const data = new DataTransfer();
    data.setData('text', text);
    document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true }));
  }, `acestream://${channel}`);
  await press(page, 'Watch here');
  await advances(page);
  await page.waitForSelector(`[data-stream="${channel}"]`);
  const sound = await page.locator('.player footer .note').allTextContents();

  say('a viewer is named');
  const viewer = watch(channel, 'VLC/3.0.21 LibVLC/3.0.21');
  await page.locator('[data-row-button]').first().click();
  const row = page.locator('.viewers tbody tr').filter({ hasText: 'VLC' });
  await row.waitFor();
  if (plan.names) {
    await row.getByRole('button', { name: /^Name/ }).click();
    await page.getByRole('dialog').getByLabel('Name').fill('Living room TV');
    await page.getByRole('dialog').getByRole('button', { name: 'Save' }).click();
    await row.filter({ hasText: 'Living room TV' }).waitFor();
  }

  say('undone, then kicked, and not straight back');
  await row.getByRole('button', { name: /^Kick/ }).click();
  await press(page, 'Undo');
  await page.getByText('Undone').first().waitFor();
  await row.getByRole('button', { name: /^Kick/ }).click();
  await press(page, 'Do it now');
  if ((await viewer.over) === 0) fail('a player must notice that it was thrown out');
  const back = await fetch(`${plan.base}ace/getstream?id=${channel}`, { method: 'GET', headers: { 'User-Agent': 'VLC/3.0.21' } });
  if (back.status !== 403) fail(`it came straight back: ${back.status}`);
  const kickedAt = Date.now();

  say('moved to the other engine');
  const where = () => page.locator(`[data-stream="${channel}"] .c-engine`).textContent();
  const before = await where();
  await page.getByRole('button', { name: 'Move to another engine' }).first().click();
  await page.waitForFunction(([channel, before]) => {
    const now = document.querySelector(`[data-stream="${channel}"] .c-engine`)?.textContent;
    return now && now !== before && /engine/.test(now);
  }, [channel, before], { timeout: 20_000 });
  await advances(page);

  say('its engine drained');
  const after = await where();
  await go(page, 'engines');
  await page.getByRole('button', { name: `Drain: ${after}` }).click();
  await press(page, 'Do it now');
  await page.locator('.engine').filter({ hasText: after }).getByText('drained').waitFor({ timeout: 10_000 });
  await page.waitForFunction((name) => ![...document.querySelectorAll('.engine')].find((one) => one.textContent.includes(name))?.querySelector('.slots .used'), after, { timeout: 20_000 });

  say('back in after five seconds');
  await page.waitForTimeout(Math.max(0, 5_200 - (Date.now() - kickedAt)));
  const again = watch(channel, 'VLC/3.0.21');
  if ((await Promise.race([again.over, page.waitForTimeout(1_500).then(() => 'plays')])) !== 'plays') fail('it was kept out for longer');
  again.end();

  say('by the keyboard alone');
  await page.keyboard.press('Escape');
  await page.evaluate(() => document.activeElement?.blur());
  await page.keyboard.press('1');
  await page.waitForSelector('nav a[aria-current=page][href="#/now"]');
  await page.keyboard.press('j');
  await page.keyboard.press('Enter');
  const openRow = page.locator('[data-row-button][aria-expanded=true]');
  await page.keyboard.press('Enter');
  await openRow.or(page.locator('[data-row-button][aria-expanded=false]')).first().waitFor();
  await page.keyboard.press('?');
  await page.getByRole('dialog', { name: 'Keys' }).waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.keyboard.press('/');
  await page.waitForFunction(() => document.activeElement?.matches('[data-find]'));

  if (plan.setting) {
    say('a setting is changed');
    await go(page, 'settings');
    const change = page.getByRole('button', { name: `Change: ${plan.setting.name}`, exact: true });
    await change.click();
    await page.getByRole('dialog').getByLabel('Value').fill(plan.setting.value);
    await page.getByRole('dialog').getByRole('button', { name: 'Save' }).click();
    await page.locator(`[data-setting="${plan.setting.name}"]`).getByText(plan.setting.value).first().waitFor();
    await ask('restart');
    await page.waitForSelector('.beat.is-live', { timeout: 30_000 });
    await page.reload();
    await page.locator(`[data-setting="${plan.setting.name}"]`).getByText(plan.setting.value).first().waitFor({ timeout: 15_000 });
  }

  say('the doctor, and a bundle without secrets');
  await go(page, 'help');
  await page.getByRole('button', { name: 'Examine this set-up' }).click();
  await page.waitForSelector('.findings li', { timeout: 30_000 });
  const coming = page.waitForEvent('download', { timeout: 30_000 });
  await page.getByRole('button', { name: 'Save the bundle' }).click();
  const bundle = await readFile(await (await coming).path(), 'utf8');
  const parts = JSON.parse(bundle);
  for (const part of ['live', 'engines', 'events', 'health']) if (!parts[part]) fail(`the bundle lacks ${part}`);
  for (const secret of [plan.key, 'LibVLC', 'Mozilla']) if (bundle.includes(secret)) fail(`the bundle tells ${secret}`);

  say('logged out');
  await press(page, 'Session');
  await page.getByRole('dialog').getByRole('button', { name: 'Log out' }).click();
  await page.getByRole('button', { name: 'Log in', exact: true }).first().waitFor();
  await isClean(page);
  await context.close();
  return { sound };
}

async function fails() {
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 } });
  const connections = [];
  context.on('request', (request) => request.url().includes('/events/live') && connections.push(request));
  const page = await open(context);
  const channel = plan.channels[0];
  const viewer = watch(channel, 'VLC/3.0.21');
  await page.waitForSelector(`[data-stream="${channel}"] .state.is-ok`, { timeout: 20_000 });

  say('eight tabs, one connection');
  const tabs = [page];
  while (tabs.length < 8) tabs.push(await open(context));
  const last = tabs.at(-1);
  await last.locator(`[data-stream="${channel}"]`).waitFor();
  await last.getByRole('button', { name: /^Actions for/ }).first().click();
  await press(last, 'Watch here');
  await advances(last);
  const used = connections.length;
  if (used !== 1) fail(`${used} connections for news`);

  say('a selection survives');
  await page.bringToFront();
  await page.locator('[data-row-button]').first().click();
  const chosen = await page.evaluate(() => {
    const node = document.querySelector('.stream-details .id');
    getSelection().selectAllChildren(node);
    return getSelection().toString();
  });
  const beats = await page.evaluate(() => new Promise((over) => {
    let changes = 0;
    const seen = new MutationObserver((all) => { changes += all.length; });
    seen.observe(document.querySelector('main'), { subtree: true, characterData: true, childList: true, attributes: true });
    setTimeout(() => over(changes), 3_000);
  }));
  const still = await page.evaluate(() => getSelection().toString());
  if (beats === 0) fail('nothing was updated meanwhile');
  if (still !== chosen || !chosen.includes(channel)) fail(`selected was ${chosen}, is ${still}`);

  say('an engine dies');
  const seen = page.getByTestId('problems');
  const killed = Date.now();
  await ask('kill');
  await page.waitForFunction(() => /interrupted|healing|does not answer/.test(document.querySelector('[data-testid=problems]')?.textContent ?? ''), null, { timeout: 10_000, polling: 50 });
  const sentence = Date.now() - killed;
  const said = await seen.textContent();
  await page.locator('.timeline').getByText(/plays again after/).first().waitFor({ timeout: 20_000 });
  const healed = Date.now() - killed;

  say('the service stops');
  await ask('stop');
  const stopped = Date.now();
  await page.waitForSelector('.shell.frozen', { timeout: 15_000 });
  const grey = Date.now() - stopped;
  const title = await page.title();
  await ask('start');
  await page.waitForSelector('.shell:not(.frozen) .beat.is-live', { timeout: 30_000 });
  const back = Date.now() - stopped;
  viewer.end();
  for (const tab of tabs) await isClean(tab);

  say('the next tab takes over');
  await overPlainHttp(context, connections);

  await tabs[0].close();
  await last.bringToFront();
  await last.waitForTimeout(2_500);
  if (await last.locator('.shell.frozen').count()) fail('nobody took over');
  await context.close();
  return { connections: used, sentence, said, healed, grey, title, back };
}

/** At home the page is opened by a name and plain HTTP. Browsers have no locks there: the tabs settle it among themselves. */
async function overPlainHttp(context, connections) {
  const before = connections.length;
  const base = `http://tv.local:${new URL(plan.base).port}/`;
  const tabs = [await open(context, base)];
  while (tabs.length < 3) tabs.push(await open(context, base));
  if (await tabs[0].evaluate(() => isSecureContext || 'locks' in navigator)) fail('this is no plain HTTP');
  await tabs[2].waitForTimeout(4_000);
  const used = connections.length - before;
  if (used !== 1) fail(`${used} connections for the news of three tabs by plain HTTP`);
  await tabs[0].close();
  await tabs[2].bringToFront();
  await tabs[2].waitForTimeout(6_500);
  if (await tabs[2].locator('.shell.frozen').count()) fail('nobody took over by plain HTTP');
  for (const tab of tabs.slice(1)) {
    await isClean(tab);
    await tab.close();
  }
}

const PREFIX = 'acemux/';

/** A server of the page's own files and of news that are made up. */
async function scripted(streams, viewers) {
  const stream = (n) => ({
    stream_id: String(n).padStart(40, '0'), infohash: null, state: 'live', verdict: 'smooth', verdict_reason: 'it plays', is_live: true,
    client_count: Math.round(viewers / streams), container_id: `e${n % 34}`, engine_host: 'e', engine_port: 1, created_at: new Date().toISOString(), started_at: new Date().toISOString(),
    status: 'dl', peers: 20, speed_down: 800, speed_up: 90, bitrate_bps: 8_000_000, arriving_bps: 8_000_000, runway_seconds: 12, bytes_received: 1, bytes_sent: 1,
    resolution: '1920x1080', fps: 50, scan: 'progressive', video_codec: 'h264', audio_codec: 'aac', tracks: [], error: null,
  });
  const engine = (n) => ({
    container_id: `e${n}`, container_name: `acestream-${n}`, host: 'e', port: n, health_status: 'healthy', trust: 'full', trust_reason: null, runaway: null, vpn_container: null,
    engine_variant: null, version: '3.2.11', forwarded: false, forwarded_port: null, cordoned: false, slots_used: 3, slots_total: 3, streams: [], first_seen: new Date().toISOString(), last_seen: new Date().toISOString(), platform: 'linux',
  });
  const all = Object.fromEntries(Array.from({ length: streams }, (_, n) => [stream(n).stream_id, stream(n)]));
  const engines = Object.fromEntries(Array.from({ length: 34 }, (_, n) => [`e${n}`, engine(n)]));
  const totals = { streams, viewers, waiting: 0, bytes_in: 0, bytes_out: 0, engines: 34, engines_healthy: 34, slots_used: 100, slots_total: 102, slots_waiting: 0 };
  let number = 0;
  const send = (response, event, data) => response.write(`event: ${event}\nid: ${(number += 1)}\ndata: ${JSON.stringify(data)}\n\n`);
  const server = createServer(async (request, response) => {
    // Under a path, as behind a reverse proxy that tells nobody.
    const path = request.url.startsWith(`/${PREFIX}`) ? request.url.slice(PREFIX.length + 1) : fail(`asked for ${request.url}`);
    if (!path.startsWith('api/v1/events/live')) {
      const answer = await fetch(plan.base + path, { headers: { 'Accept-Encoding': 'identity' } });
      const headers = Object.fromEntries([...answer.headers].filter(([name]) => !/^(content-length|content-encoding|transfer-encoding|connection)$/.test(name)));
      response.writeHead(answer.status, headers).end(Buffer.from(await answer.arrayBuffer()));
      return;
    }
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
    send(response, 'snapshot', { streams: all, engines, vpns: {}, totals });
    const beat = setInterval(() => {
      totals.bytes_in += 1e8;
      totals.bytes_out += 5e8;
      // Of each stream four figures, as real ones have it.
      const patch = Object.fromEntries(Object.keys(all).map((id) => [id, {
        arriving_bps: Math.round(7_000_000 + Math.random() * 2e6), bytes_received: totals.bytes_in, bytes_sent: totals.bytes_out, runway_seconds: 10 + Math.random(),
      }]));
      send(response, 'patch', { streams: patch, totals: { bytes_in: totals.bytes_in, bytes_out: totals.bytes_out } });
    }, 1_000);
    response.on('close', () => clearInterval(beat));
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  return server;
}

async function loads() {
  const server = await scripted(100, 500);
  const local = `http://127.0.0.1:${server.address().port}/${PREFIX}`;
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  const page = await context.newPage();
  await page.goto(`${local}panel/`);
  await page.waitForFunction(() => document.querySelectorAll('[data-stream]').length === 100, null, { timeout: 20_000 });
  const tab = await context.newCDPSession(page);
  await tab.send('Performance.enable', { timeDomain: 'threadTicks' });
  const measure = async () => {
    await page.evaluate(() => window.gc?.());
    const { metrics } = await tab.send('Performance.getMetrics');
    const of = (name) => metrics.find((one) => one.name === name)?.value ?? 0;
    return { at: Date.now(), busy: of('TaskDuration'), heap: of('JSHeapUsedSize'), nodes: of('Nodes') };
  };
  // Sparklines and lists of what happened fill up first.
  await page.waitForTimeout(plan.warm * 1000);
  const first = await measure();
  await page.waitForTimeout(plan.seconds * 1000);
  const second = await measure();
  const updated = await page.locator('.c-rate').first().textContent();
  await context.close();
  server.closeAllConnections();
  server.close();
  return { core: (second.busy - first.busy) / ((second.at - first.at) / 1000), heap: [first.heap, second.heap], nodes: [first.nodes, second.nodes], updated };
}

/** The pictures of the README and the documentation. */
async function shots() {
  await mkdir(plan.shots, { recursive: true });
  const viewers = plan.channels.flatMap((id, at) => Array.from({ length: 1 + (at % 3) }, (_, n) => watch(id, ['VLC/3.0.21 LibVLC/3.0.21', 'Kodi/21.1', 'TiviMate/5.1'][n])));
  const context = await browser.newContext({ viewport: { width: 1440, height: 960 }, colorScheme: 'dark', reducedMotion: 'reduce' });
  const page = await open(context);
  await page.waitForFunction((count) => document.querySelectorAll('.stream .state.is-ok').length >= count, plan.channels.length, { timeout: 30_000 });
  await page.waitForTimeout(plan.settle * 1000);
  await page.screenshot({ path: `${plan.shots}/now.png` });
  await page.emulateMedia({ colorScheme: 'light' });
  await go(page, 'engines');
  await page.waitForTimeout(1_000);
  await page.screenshot({ path: `${plan.shots}/engines.png` });
  await go(page, 'now');
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.setViewportSize({ width: 390, height: 844 });
  await page.waitForTimeout(1_000);
  await page.screenshot({ path: `${plan.shots}/phone.png` });
  await page.setViewportSize({ width: 1440, height: 960 });
  await ask('kill');
  await page.locator('.timeline').getByText(/plays again after/).first().waitFor({ timeout: 30_000 });
  await page.locator('[data-row-button]').first().click();
  await page.waitForTimeout(1_500);
  await page.screenshot({ path: `${plan.shots}/healing.png` });
  await context.close();
  viewers.forEach((viewer) => viewer.end());
  return {};
}

try {
  const scenes = { looks, acts, fails, loads, shots };
  console.log(JSON.stringify(await scenes[scene]()));
} catch (error) {
  const [page] = browser.contexts().flatMap((context) => context.pages());
  await page?.screenshot({ path: `${plan.shots ?? '.'}/failed-${scene}.png` }).catch(() => {});
  console.log(JSON.stringify({ failed: error.stack ?? String(error) }));
} finally {
  await browser.close();
  process.exit(0);
}
