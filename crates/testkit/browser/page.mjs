// Opens a page as the documentation prints it in headless Chromium and says as one line of JSON what its video did.
//
//   node page.mjs <file with the page> <seconds>
//
// Scripts that the page takes from elsewhere come from node_modules, because there is no elsewhere here.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const [file, seconds] = [process.argv[2], Number(process.argv[3])];
const module = (path) => fileURLToPath(new URL(`node_modules/${path}`, import.meta.url));
const scripts = {
  'https://cdn.jsdelivr.net/npm/hls.js@latest': module('hls.js/dist/hls.min.js'),
  'https://vjs.zencdn.net/7.20.3/video.min.js': module('video.js/dist/video.min.js'),
};

const page = await readFile(file);
const server = createServer((_, response) => {
  response.setHeader('Content-Type', 'text/html; charset=utf-8');
  response.end(page);
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--autoplay-policy=no-user-gesture-required'],
});
try {
  const tab = await browser.newPage();
  const seen = { errors: [], foreign: [] };
  tab.on('pageerror', (error) => seen.errors.push(String(error)));
  await tab.route(/^https:/, async (route) => {
    const script = scripts[route.request().url()];
    if (!script) seen.foreign.push(route.request().url());
    await (script ? route.fulfill({ path: script, contentType: 'text/javascript' }) : route.abort());
  });
  await tab.goto(`http://127.0.0.1:${server.address().port}/`);
  // As who presses the button.
  const time = () => document.querySelector('video')?.currentTime ?? 0;
  await tab.waitForFunction(() => {
    const video = document.querySelector('video');
    video?.play().catch(() => {});
    return (video?.currentTime ?? 0) > 0;
  }, null, { timeout: 30000, polling: 500 }).catch(() => seen.errors.push('the video never began'));
  const from = await tab.evaluate(time);
  await tab.waitForTimeout(seconds * 1000);
  const end = await tab.evaluate(() => {
    const video = document.querySelector('video');
    const quality = video.getVideoPlaybackQuality();
    return { time: video.currentTime, frames: quality.totalVideoFrames, width: video.videoWidth };
  });
  console.log(JSON.stringify({ ...seen, ...end, advanced: end.time - from }));
} finally {
  await browser.close();
  server.close();
}
