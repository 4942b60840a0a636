// Formats assembly/ and bench/assembly/ by Biome, or with --check fails where they are not formatted. AssemblyScript
// decorates functions, which TypeScript's grammar does not know: the decorators are comments while Biome sees them.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const biome = createRequire(import.meta.url).resolve('@biomejs/biome/bin/biome');
const check = process.argv.includes('--check');
let failed = false;

const paths = ['assembly', 'bench/assembly'].flatMap((folder) =>
  readdirSync(folder).map((name) => `${folder}/${name}`),
);
for (const path of paths.filter((name) => name.endsWith('.ts'))) {
  const source = readFileSync(path, 'utf8');
  const input = source.replace(/^@(inline|external\(.*\))$/gm, '//@$1');
  // The name only tells the language; a path in assembly/ would be one that Biome is told to leave alone.
  const output = execFileSync(process.execPath, [biome, 'format', '--stdin-file-path=kernel.ts'], {
    input,
    encoding: 'utf8',
  }).replace(/^\/\/@/gm, '@');
  if (output === source) continue;
  if (check) {
    console.error(`${path} is not formatted: run node scripts/format-kernels.mjs`);
    failed = true;
  } else {
    writeFileSync(path, output);
  }
}
process.exit(failed ? 1 : 0);
