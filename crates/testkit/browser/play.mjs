// Plays a manifest with hls.js in headless Chromium and prints what came of it as one line of JSON.
//
//   node play.mjs <manifest URL> <seconds> [<seconds for which the page is suspended in between>]
//
// The page is served from an address of its own, so that the manifest and its segments need CORS as they do in real
// pages.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

const [manifest, seconds, suspended] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4] ?? 0)];
const hlsJs = createRequire(import.meta.url).resolve('hls.js/dist/hls.min.js');

const page = `<!doctype html><video id="v" muted autoplay playsinline></video><script src="/hls.js"></script><script>
  const video = document.getElementById('v');
  window.seen = { errors: [], fatal: [], levels: 0 };
  const hls = new Hls();
  hls.on(Hls.Events.ERROR, (_, data) => {
    (data.fatal ? seen.fatal : seen.errors).push(data.details + (data.reason ? ': ' + data.reason : ''));
  });
  hls.on(Hls.Events.LEVEL_LOADED, () => { seen.levels += 1; });
  hls.loadSource(${JSON.stringify(manifest)});
  hls.attachMedia(video);
  window.report = () => {
    const quality = video.getVideoPlaybackQuality();
    const range = (ranges) => ranges.length ? ranges.end(ranges.length - 1) - ranges.start(0) : 0;
    return { ...seen, time: video.currentTime, buffered: range(video.buffered), paused: video.paused,
             frames: quality.totalVideoFrames, dropped: quality.droppedVideoFrames, width: video.videoWidth };
  };
</script>`;

const server = createServer(async (request, response) => {
  if (request.url === '/hls.js') {
    response.setHeader('Content-Type', 'text/javascript');
    response.end(await readFile(hlsJs));
  } else {
    response.setHeader('Content-Type', 'text/html');
    response.end(page);
  }
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));

const launched = await chromium.launchServer({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--autoplay-policy=no-user-gesture-required'],
});
const browser = await chromium.connect(launched.wsEndpoint());
try {
  const tab = await browser.newPage();
  await tab.goto(`http://127.0.0.1:${server.address().port}/`);
  const started = await tab.waitForFunction(() => document.getElementById('v').currentTime > 0, null, { timeout: 20000 })
    .then(() => true, () => false);
  if (started && suspended > 0) {
    await tab.waitForTimeout(5000);
    // As the system does with what is behind a locked screen: no timers, no requests. All its processes are one group.
    process.kill(-launched.process().pid, 'SIGSTOP');
    await new Promise((over) => setTimeout(over, suspended * 1000));
    process.kill(-launched.process().pid, 'SIGCONT');
    await tab.waitForTimeout(5000);
  }
  const from = await tab.evaluate(() => report());
  if (started) await tab.waitForTimeout(seconds * 1000);
  const end = await tab.evaluate(() => report());
  console.log(JSON.stringify({ started, advanced: end.time - from.time, shown: end.frames - from.frames, ...end }));
} finally {
  await browser.close();
  await launched.close();
  server.close();
}
