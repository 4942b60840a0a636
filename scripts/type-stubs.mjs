// The last step of a build. What the entries' types have in common is in a .d.ts of its own, which TypeScript finds by the
// name of a script that is not there. Deno and JSR want the script: this writes one that is empty.

import { existsSync, readdirSync, writeFileSync } from 'node:fs';

for (const file of readdirSync('dist')) {
  const script = `dist/${file.replace(/\.d\.ts$/, '.js')}`;
  if (!file.endsWith('.d.ts') || existsSync(script)) continue;
  writeFileSync(script, `/* @ts-self-types="./${file}" */\nexport {};\n`);
}
