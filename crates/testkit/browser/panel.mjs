// The dashboard in headless Chromium. Prints what came of it as one line of JSON, or what went wrong, and exits with 1.
//
//   node panel.mjs looks '{ "base": "http://127.0.0.1:8000/", "shots": "target/panel" }'
//
// | scene | needs | shows |
// |---|---|---|
// | looks | streams that play | every page at four widths, light, dark and in forced colours: axe, sideways scrolling, policy, screenshots |
// | acts | a key, a channel | login, a stream started and watched, a viewer named and kicked, a stream moved, an engine drained, logout |
// | fails | two engines | an engine dies, the service stops and comes back, eight tabs and a player, a selection survives |
// | tunnels | two VPNs, engines in Docker | a tunnel goes and comes back; engines are drained, deleted, created; what a bundle tells |
// | keys | a channel | every action by real keys; focus, live region, 200 % zoom, reduced motion |
// | stays | a channel | sleep, no network, a newer server behind the page, a tab that closes while something is pending |
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
        // As it is painted: a browser that is told another size has one layout in between.
        await page.evaluate(() => new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(painted))));
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

  say('a stream is named, and the player in the corner is called what it is');
  await page.locator('[data-row-button]').first().click();
  await page.locator('.viewers tbody tr').filter({ hasText: 'Dashboard' }).waitFor();
  await page.getByRole('button', { name: 'Name this stream' }).first().click();
  await page.getByRole('dialog').getByLabel('Name').fill('News 24');
  await page.getByRole('dialog').getByRole('button', { name: 'Save' }).click();
  await page.locator('.stream-name').getByText('News 24').waitFor({ timeout: 5_000 });
  await page.getByTestId('memory').getByText(/ of .*B/).waitFor();

  say('a viewer is named');
  const viewer = watch(channel, 'VLC/3.0.21 LibVLC/3.0.21');
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
    await go(page, 'history');
    await page.locator('.events .what').getByText('News 24').first().waitFor({ timeout: 15_000 });
  }

  say('the doctor, and a bundle without secrets');
  await go(page, 'help');
  await page.getByRole('button', { name: 'Examine this set-up' }).click();
  await page.waitForSelector('.findings li', { timeout: 30_000 });
  const bundle = await saved(page);
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
  // What somebody hears who does not see the page.
  await page.evaluate(() => {
    window.heard = [];
    const region = document.querySelector('[role=log]');
    new MutationObserver(() => region.textContent && window.heard.push(region.textContent)).observe(region, { childList: true, characterData: true, subtree: true });
  });
  const killed = Date.now();
  await ask('kill');
  await page.waitForFunction(() => /interrupted|healing|does not answer/.test(document.querySelector('[data-testid=problems]')?.textContent ?? ''), null, { timeout: 10_000, polling: 50 });
  const sentence = Date.now() - killed;
  const said = await seen.textContent();
  await page.locator('.timeline').getByText(/plays again/).first().waitFor({ timeout: 20_000 });
  const healed = Date.now() - killed;
  const heard = await page.evaluate(() => window.heard);
  if (!heard.some((text) => /interrupted|healing|does not answer/.test(text))) fail(`it is not announced: ${heard}`);
  if (new Set(heard).size < heard.length) fail(`it is announced again and again: ${heard}`);

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

  say('and the player in the corner plays again by itself');
  await last.bringToFront();
  // Nobody else has come back.
  const isWatching = async () => (await (await fetch(`${plan.base}proxy/status`)).json()).total_clients > 0;
  const until = Date.now() + 40_000;
  while (!(await isWatching())) {
    if (Date.now() > until) fail('the player has not come back');
    await last.waitForTimeout(200);
  }
  await last.evaluate(() => { window.from = undefined; });
  await advances(last);
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
    stream_id: String(n).padStart(40, '0'), infohash: null, name: null, state: 'live', verdict: 'smooth', verdict_reason: 'it plays', is_live: true,
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
  const totals = { streams, viewers, waiting: 0, bytes_in: 0, bytes_out: 0, engines: 34, engines_healthy: 34, slots_used: 100, slots_total: 102, slots_waiting: 0, buffer_bytes: 1e8, buffer_limit_bytes: 1e9 };
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

async function tunnels() {
  await mkdir(plan.shots, { recursive: true });
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 } });
  const page = await open(context);
  await press(page, 'Log in');
  await page.getByLabel('API key').fill(plan.key);
  await page.getByRole('dialog').getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  const region = (name) => page.getByRole('region', { name, exact: true });
  const isUp = async ({ name, exit, port }) => {
    for (const text of [exit, String(port), 'up']) await region(name).getByText(text, { exact: true }).first().waitFor({ timeout: 30_000 });
    await region(name).locator('.engine .state').filter({ hasText: 'well' }).first().waitFor({ timeout: 30_000 });
  };

  say('both tunnels with what is behind them');
  await go(page, 'engines');
  for (const vpn of plan.vpns) await isUp(vpn);
  await page.screenshot({ path: `${plan.shots}/up.png`, fullPage: true });
  const viewer = watch(plan.channels[0], 'VLC/3.0.21 LibVLC/3.0.21');
  await go(page, 'now');
  for (const { name } of plan.vpns) await page.locator('.tile').filter({ hasText: `${name} up` }).waitFor();
  await page.waitForSelector('[data-testid=problems].is-ok', { timeout: 20_000 });

  say('one goes down');
  const [, second] = plan.vpns;
  const problems = page.getByTestId('problems');
  const down = Date.now();
  await ask('down');
  // First that something is wrong with it, then that it is certain.
  await problems.getByText(new RegExp(`^${second.name} (may be|has been) down`)).waitFor({ timeout: 20_000 });
  const sentence = Date.now() - down;
  await problems.getByText(new RegExp(`^${second.name} has been down`)).waitFor({ timeout: 40_000 });
  const certain = Date.now() - down;
  const said = await problems.locator('li').filter({ hasText: `${second.name} has been down` }).locator('p').textContent();
  await page.locator('.tile').filter({ hasText: `${second.name} down` }).waitFor();
  await page.screenshot({ path: `${plan.shots}/down-now.png`, fullPage: true });
  for (const width of [1200, 390]) {
    await page.setViewportSize({ width, height: 900 });
    await go(page, 'engines');
    await region(second.name).getByText('down', { exact: true }).waitFor();
    const wrong = await findings(page);
    if (wrong.length) fail(wrong.join('; '));
    await page.screenshot({ path: `${plan.shots}/down-${width}.png`, fullPage: true });
  }
  await page.setViewportSize({ width: 1200, height: 900 });

  say('and comes back');
  await ask('up');
  await isUp(second);
  await go(page, 'now');
  await problems.getByText(`${second.name} has been down`).waitFor({ state: 'detached', timeout: 30_000 });

  say('an engine that Docker runs is drained, and another one takes its place');
  await go(page, 'engines');
  const engines = () => page.locator('.engine').evaluateAll((all) => all.map((one) => one.dataset.engine));
  const before = await engines();
  const playing = page.locator('.engine').filter({ has: page.locator('.slots .used') }).first();
  const id = await playing.getAttribute('data-engine');
  const one = page.locator(`[data-engine="${id}"]`);
  await one.getByRole('button', { name: /^Drain and replace/ }).click();
  await press(page, 'Do it now');
  await one.getByText('drained').or(page.getByText('gets no new streams')).first().waitFor({ timeout: 10_000 });
  await one.waitFor({ state: 'detached', timeout: 60_000 });
  await page.waitForFunction((least) => document.querySelectorAll('.engine .state.is-ok').length >= least, Math.min(2, before.length), { timeout: 30_000 });
  if ((await Promise.race([viewer.over, page.waitForTimeout(1_000).then(() => 'plays')])) !== 'plays') fail('the viewer was lost with the engine');

  say('its log, one engine more, and a deletion');
  await page.getByRole('button', { name: /^Log of/ }).first().click();
  await page.getByRole('dialog').getByText('last words').waitFor();
  await page.keyboard.press('Escape');
  const most = (await engines()).length;
  await press(page, 'One engine more');
  await page.waitForFunction((most) => document.querySelectorAll('.engine').length > most, most, { timeout: 30_000 });
  const last = page.locator('.engine').filter({ hasNot: page.locator('.slots .used') }).last();
  const gone = await last.getAttribute('data-engine');
  await last.getByRole('button', { name: /^Delete/ }).click();
  await press(page, 'Do it now');
  await page.locator(`[data-engine="${gone}"]`).waitFor({ state: 'detached', timeout: 30_000 });

  say('a bundle for strangers');
  const bundle = await saved(page);
  const cookies = (await context.cookies()).map(({ value }) => value).filter(Boolean);
  if (!cookies.length) fail('nobody is logged in by a cookie');
  for (const secret of [...plan.secrets, ...cookies, 'LibVLC', 'Mozilla']) if (bundle.includes(secret)) fail(`the bundle tells ${secret}: ${bundle.slice(bundle.indexOf(secret) - 200, bundle.indexOf(secret) + 60)}`);
  if (!bundle.includes('vpn-1')) fail('the bundle tells nothing of VPNs');
  await isClean(page);
  viewer.end();
  await context.close();
  return { sentence, certain, said };
}

/** What "Save the bundle" saves. */
async function saved(page) {
  await go(page, 'help');
  const coming = page.waitForEvent('download', { timeout: 30_000 });
  await page.getByRole('button', { name: 'Save the bundle' }).click();
  return readFile(await (await coming).path(), 'utf8');
}

async function keys() {
  await mkdir(plan.shots, { recursive: true });
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, reducedMotion: 'reduce' });
  const page = await open(context);
  const channel = plan.channels[0];
  const viewers = ['VLC/3.0.21 LibVLC/3.0.21', 'Kodi/21.1'].map((agent) => watch(channel, agent));
  await page.waitForSelector(`[data-stream="${channel}"] .state.is-ok`, { timeout: 20_000 });
  const focused = () => page.evaluate(() => {
    const at = document.activeElement;
    return { tag: at?.tagName, name: at?.getAttribute('aria-label') ?? at?.textContent ?? '', hasRing: !!at && at.matches(':focus-visible') && getComputedStyle(at).outlineStyle !== 'none' };
  });
  const isAt = async (name, what) => {
    const at = await focused();
    if (!at.name.includes(name)) fail(`${what}: the focus is at ${JSON.stringify(at)}, not at ${name}`);
    return at;
  };
  /** With the tabulator to what has this name; nothing on the way is invisible. */
  const tabTo = async (name, most = 60) => {
    for (let step = 0; step < most; step += 1) {
      await page.keyboard.press('Tab');
      const at = await focused();
      if (at.tag !== 'BODY' && !at.hasRing) fail(`nobody sees that the focus is at ${at.tag} ${at.name}`);
      if (at.name.trim().startsWith(name)) return;
    }
    fail(`the tabulator never reaches ${name}`);
  };

  say('past the menu');
  await tabTo('Skip to content', 1);
  await page.keyboard.press('Enter');
  if (!(await page.evaluate(() => document.activeElement?.id === 'main'))) fail('it skips to nothing');

  say('a row by keys alone');
  await page.keyboard.press('j');
  await isAt('Details of', 'j');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.viewers tbody tr', { timeout: 10_000 });
  await isAt('Details of', 'an opened row');

  say('a name by keys alone, and the focus comes back');
  await tabTo('Name this stream');
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  await tabTo('', 1);
  await page.getByRole('dialog').getByLabel('Name').focus();
  await page.keyboard.type('News 24');
  await page.keyboard.press('Enter');
  await page.locator('.stream-name').getByText('News 24').waitFor({ timeout: 5_000 });
  await page.waitForFunction(() => document.activeElement?.textContent === 'Name this stream', null, { timeout: 3_000 });

  say('the menu of a row, and Escape');
  await page.keyboard.press('k');
  await tabTo('Actions for News 24');
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.waitForTimeout(100);
  await isAt('Actions for News 24', 'a closed menu');

  say('what has the focus is taken away');
  const kick = page.getByRole('button', { name: /^Kick/ });
  await kick.first().focus();
  const [, kodi] = [viewers[0].end(), viewers[1]];
  await page.waitForFunction(() => document.querySelectorAll('.viewers tbody tr').length === 1, null, { timeout: 15_000 });
  const left = await page.evaluate(() => document.activeElement?.closest('main') !== null && document.activeElement !== document.body);
  if (!left) fail('the focus was lost with a viewer');
  await kick.first().focus();
  kodi.end();
  await page.getByText('Nobody at this moment.').waitFor({ timeout: 15_000 });
  if (await page.evaluate(() => document.activeElement === document.body)) fail('the focus was lost with the last viewer');

  say('pasted by keys: an id, an address, an infohash, a playlist, and what is none');
  await page.evaluate(() => document.activeElement?.blur());
  const paste = async (text, into) => {
    await page.evaluate(async (text) => {
      const field = Object.assign(document.createElement('textarea'), { value: text });
      document.body.append(field);
      field.select();
      document.execCommand('copy');
      field.remove();
    }, text);
    await into?.focus();
    await page.keyboard.press('Control+v');
  };
  const ids = [1, 2, 3].map((n) => String(n).padStart(40, 'a'));
  for (const [text, count] of [
    [`  ${ids[0]}\n`, 1], [`acestream://${ids[0].toUpperCase()}`, 1], [`http://tv:8000/ace/getstream?id=${ids[1]}&pid=3`, 1],
    [`http://127.0.0.1:6878/ace/manifest.m3u8?infohash=${ids[2]}`, 1], [`magnet:?xt=urn:btih:${ids[2]}`, 1],
    [`#EXTM3U\n${ids.map((id) => `#EXTINF:-1,x\nacestream://${id}`).join('\n')}`, 3], ['<script>alert(1)</script>', 0], [`${ids[0]}f`, 0],
  ]) {
    await paste(text);
    if (count) {
      // The browser writes its clipboard when it gets to it: what is pasted at once may be what was there before.
      const offers = () => page.waitForFunction(
        (count) => document.querySelectorAll('dialog[open] li').length === count, count, { timeout: 3_000 },
      ).then(() => true, () => false);
      for (let tries = 1; !(await offers()); tries += 1) {
        if (tries === 5) fail(`not ${count} streams are offered for ${text}`);
        await page.keyboard.press('Control+v');
      }
      await page.keyboard.press('Escape');
      await page.getByRole('dialog').waitFor({ state: 'detached' });
    } else {
      await page.getByText('holds no AceStream id').last().waitFor();
    }
  }
  const field = page.locator('[data-find]').first();
  await paste(ids[0], field);
  if ((await field.inputValue()) !== ids[0]) fail(`pasted was ${await field.inputValue()}`);
  if (await page.getByRole('dialog').count()) fail('what is pasted into a field is not played');

  say('at 200 %: as wide as half of it');
  for (const [width, height] of [[600, 450], [320, 256]]) {
    await page.setViewportSize({ width, height });
    for (const name of PAGES) {
      await go(page, name);
      const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      if (over > 0) fail(`${name} at ${width}: ${over} px sideways`);
    }
  }
  await page.evaluate(() => { document.documentElement.style.fontSize = '200%'; });
  await page.setViewportSize({ width: 1280, height: 900 });
  for (const name of PAGES) {
    await go(page, name);
    await page.waitForTimeout(200);
    const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    await page.screenshot({ path: `${plan.shots}/${name}-large.png` });
    if (over > 0) fail(`${name} with a font twice as large: ${over} px sideways`);
  }

  say('nothing moves for who wants that');
  await go(page, 'now');
  const moving = await page.evaluate(() => new Promise((over) => setTimeout(() => over(document.getAnimations().length), 2_500)));
  if (moving) fail(`${moving} animations`);
  await isClean(page);
  await context.close();
  return {};
}

async function stays() {
  await mkdir(plan.shots, { recursive: true });
  const channel = plan.channels[0];
  const viewer = watch(channel, 'VLC/3.0.21 LibVLC/3.0.21');
  const front = await newer();
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 } });
  const page = await open(context, front.base);
  await page.waitForSelector(`[data-stream="${channel}"] .state.is-ok`, { timeout: 20_000 });
  const tab = await context.newCDPSession(page);
  const isLive = () => page.waitForSelector('.shell:not(.frozen) .beat.is-live', { timeout: 25_000 });

  say('a laptop sleeps');
  await tab.send('Page.setWebLifecycleState', { state: 'frozen' });
  front.sleep();
  await new Promise((over) => setTimeout(over, 7_000));
  await tab.send('Page.setWebLifecycleState', { state: 'active' });
  // Frozen never looks well, not even for the moment after.
  await page.waitForSelector('.shell.frozen, .shell:not(.frozen) .beat.is-live', { timeout: 5_000 });
  await isLive();

  say('no network');
  await context.setOffline(true);
  front.cut();
  await page.waitForSelector('.shell.frozen', { timeout: 15_000 });
  if (!(await page.title()).startsWith('…')) fail('its title looks well');
  await go(page, 'engines');
  await go(page, 'settings');
  await go(page, 'now');
  await context.setOffline(false);
  await isLive();

  say('a newer server, and the files of the old one are gone');
  if (await page.getByTestId('old').count()) fail('it is not old yet');
  front.replace();
  front.cut();
  await page.getByTestId('old').waitFor({ timeout: 30_000 });
  await isLive();
  await page.getByRole('button', { name: /^Actions for/ }).first().click();
  await press(page, 'Watch here');
  await page.locator('.player .note.is-bad').waitFor({ timeout: 10_000 });
  await page.screenshot({ path: `${plan.shots}/old.png` });
  front.mend();
  await press(page, 'Load it');
  await isLive();
  if (await page.getByTestId('old').count()) fail('it is old after it was loaded anew');

  say('closing the page counts as a yes');
  await page.locator('[data-row-button]').first().click();
  const row = page.locator('.viewers tbody tr').filter({ hasText: 'VLC' });
  await row.getByRole('button', { name: /^Kick/ }).click();
  await page.getByText('is kicked in 5 s').waitFor();
  const closed = Date.now();
  await page.close({ runBeforeUnload: false });
  const ended = await Promise.race([viewer.over, new Promise((over) => setTimeout(() => over('plays'), 4_000))]);
  if (ended === 'plays') fail('it was not kicked');
  await context.close();
  front.close();
  return { kicked: Date.now() - closed };
}

/** A server before the real one that breaks connections, and that can become another version: with other names of its files. */
async function newer() {
  let [isNew, isSleeping] = [false, false];
  const open = new Set();
  const server = createServer(async (request, response) => {
    open.add(response);
    response.on('close', () => open.delete(response));
    if (isNew && request.url.startsWith('/panel/assets/')) return response.writeHead(404).end();
    const gone = new AbortController();
    response.on('close', () => gone.abort());
    const asked = {};
    for (const name of ['content-type', 'last-event-id', 'x-acemux-player', 'user-agent']) if (request.headers[name]) asked[name] = request.headers[name];
    try {
      const body = request.method === 'GET' || request.method === 'HEAD' ? undefined : request;
      const answer = await fetch(new URL(request.url, plan.base), { method: request.method, headers: { ...asked, 'Accept-Encoding': 'identity' }, body, duplex: 'half', signal: gone.signal });
      const headers = Object.fromEntries([...answer.headers].filter(([name]) => !/^(content-length|content-encoding|transfer-encoding|connection|etag)$/.test(name)));
      response.writeHead(answer.status, headers);
      if (isNew && /^\/panel\/(\?|$)/.test(request.url)) return response.end((await answer.text()).replace(/index-[\w-]+\.js/, 'index-of-tomorrow.js'));
      for await (const chunk of answer.body ?? []) if (!isSleeping) response.write(chunk);
      response.end();
    } catch {
      response.destroy();
    }
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  const cut = () => open.forEach((response) => response.destroy());
  return {
    base: `http://127.0.0.1:${server.address().port}/`,
    cut,
    /** What is under way tells nothing more, and does not end either. */
    sleep: () => { isSleeping = true; setTimeout(() => { isSleeping = false; }, 6_000); },
    replace: () => { isNew = true; },
    mend: () => { isNew = false; },
    close: () => { server.closeAllConnections(); server.close(); },
  };
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
  for (const [id, name] of Object.entries(plan.names)) {
    const given = await fetch(`${plan.base}api/v1/channels/names/${id}`, { method: 'PUT', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ name }) });
    if (!given.ok) fail(`a name is refused: ${given.status}`);
  }
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
  const healed = page.locator('.timeline li').filter({ hasText: 'plays again' }).first();
  await healed.waitFor({ timeout: 30_000 });
  const name = (await healed.locator('b').textContent()).replace(/:\s*$/, '');
  await page.locator('[data-row-button]').filter({ hasText: name }).click();
  await page.waitForTimeout(1_500);
  await page.screenshot({ path: `${plan.shots}/healing.png` });
  await context.close();
  viewers.forEach((viewer) => viewer.end());
  return {};
}

try {
  const scenes = { looks, acts, fails, tunnels, keys, stays, loads, shots };
  console.log(JSON.stringify(await scenes[scene]()));
} catch (error) {
  const [page] = browser.contexts().flatMap((context) => context.pages());
  await page?.screenshot({ path: `${plan.shots ?? '.'}/failed-${scene}.png` }).catch(() => {});
  console.log(JSON.stringify({ failed: error.stack ?? String(error) }));
} finally {
  await browser.close();
  process.exit(0);
}
