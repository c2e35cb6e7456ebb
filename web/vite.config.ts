import { defineConfig } from 'vite';

// Relative addresses: the page works wherever a reverse proxy puts it, and never learns where that is.
export default defineConfig({
  base: './',
  build: {
    target: 'es2022',
    // Nothing inline: the page's policy runs no inline script and applies no inline style.
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    // A package's file says nothing by its name.
    rolldownOptions: { output: { chunkFileNames: (chunk) => (chunk.moduleIds.some((id) => id.includes('/uqr/')) ? 'assets/qr-[hash].js' : 'assets/[name]-[hash].js') } },
  },
});
