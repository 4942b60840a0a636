// Compiles every build of the kernels, two at a time. The low-precision ones have an entry of their own, which
// asconfig.json can't express.
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const asc = join(dirname(createRequire(import.meta.url).resolve('assemblyscript/package.json')), 'bin/asc.js');
const targets = Object.entries(JSON.parse(readFileSync('asconfig.json', 'utf8')).targets);

async function compileNext() {
  for (let next = targets.shift(); next; next = targets.shift()) {
    const [target, options] = next;
    const entry = options.use ? 'assembly/lowp.ts' : 'assembly/index.ts';
    const { stdout, stderr } = await run(process.execPath, [
      asc,
      entry,
      '--config',
      'asconfig.json',
      '--target',
      target,
    ]);
    process.stdout.write(stdout + stderr);
  }
}

try {
  await Promise.all([compileNext(), compileNext()]);
} catch (error) {
  console.error(error.stderr || error.message);
  process.exit(1);
}
