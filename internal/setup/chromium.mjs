// Unpacks npm's Chromium, its libraries and fonts into the folder that is named, with a script that starts it.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { brotliDecompressSync } from 'node:zlib';

const into = path.resolve(process.argv[2]);
const packed = new URL('./node_modules/@sparticuz/chromium/bin/', import.meta.url).pathname;
const unpack = (name) => brotliDecompressSync(readFileSync(path.join(packed, name)));

mkdirSync(into, { recursive: true });
writeFileSync(path.join(into, 'chromium-binary'), unpack('chromium.br'), { mode: 0o755 });
for (const archive of ['al2023.tar.br', 'swiftshader.tar.br', 'fonts.tar.br']) {
  execFileSync('tar', ['-x', '--no-same-owner', '-C', into], { input: unpack(archive) });
}
writeFileSync(
  path.join(into, 'chromium'),
  `#!/bin/sh
here=$(dirname "$0")
export LD_LIBRARY_PATH="$here/lib\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" FONTCONFIG_PATH="$here"
exec "$here/chromium-binary" "$@"
`,
  { mode: 0o755 },
);
