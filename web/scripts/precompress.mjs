// Replaces every file of dist/ by its compressed forms: `.gz` of all, `.br` of what the first screen needs. The
// compressors are WebAssembly at pinned versions, so that every machine makes the same bytes (zlib's depend on the
// processor). The server inflates `.gz` for the rare client that takes neither.
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import zopfli from '@gfx/zopfli';

const dist = new URL('../dist/', import.meta.url).pathname;
// As a module it is made for browsers.
const brotli = await createRequire(import.meta.url)('brotli-wasm');
// Loaded when somebody wants it, and not before.
const isSeldom = (name) => /(mpegts|uPlot|player|chart|qr)/i.test(name);

for (const entry of await readdir(dist, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile()) continue;
  const path = join(entry.parentPath, entry.name);
  const plain = await readFile(path);
  await writeFile(`${path}.gz`, await zopfli.gzipAsync(plain, { numiterations: 15 }));
  if (!isSeldom(entry.name)) await writeFile(`${path}.br`, brotli.compress(plain, { quality: 11 }));
  await rm(path);
}
