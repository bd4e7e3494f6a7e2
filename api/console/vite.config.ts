import { fileURLToPath } from 'node:url';
import { defineConfig, type Plugin } from 'vite';

// The page appears once, in its colours: the script that knows the theme may hold back the first paint.
function blockRender(): Plugin {
  return {
    name: 'block-render',
    transformIndexHtml: {
      order: 'post',
      handler: (html) => html.replace('<script type="module"', '<script type="module" blocking="render"'),
    },
  };
}

const none = fileURLToPath(new URL('src/none.ts', import.meta.url));

export default defineConfig({
  plugins: [blockRender()],
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  resolve: {
    // Clerk's wallets and password meter belong to its own sign-in form, which the console does not show:
    // it signs in by redirect.
    alias: ['@coinbase/wallet-sdk', '@base-org/account', '@zxcvbn-ts/core', '@zxcvbn-ts/language-common'].map((find) => ({ find, replacement: none })),
  },
  build: {
    target: 'es2022',
    // A data: address would need a hole in the Content-Security-Policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1000,
    license: { fileName: 'assets/licenses.md' },
  },
  server: {
    // npm run dev: the page from here, everything else from a running server.
    proxy: Object.fromEntries(['/v1', '/compute', '/console-config.json'].map((path) => [path, process.env.ARGUS_URL ?? 'http://127.0.0.1:8420'])),
  },
});
