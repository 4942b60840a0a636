import { execFile } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** Compiles assembly/limits.ts with the library's own compiler, once for each build, where it is not up to date. */
export async function buildLimits(repository: string, folder: string): Promise<void> {
  const bench = join(repository, 'bench');
  const sources = [join(repository, 'assembly'), join(bench, 'assembly')];
  const newest = Math.max(...sources.flatMap((path) => readdirSync(path).map((file) => modified(join(path, file)))));
  for (const build of ['simd', 'relaxed-simd']) {
    const out = join(folder, `limits-${build}.wasm`);
    if (existsSync(out) && modified(out) > newest) continue;
    const compiler = join(repository, 'node_modules/assemblyscript/bin/asc.js');
    const args = [compiler, '--config', 'bench/assembly/asconfig.json', '--target', build, '--outFile', out];
    await promisify(execFile)(process.execPath, args, { cwd: repository, timeout: 120_000 });
  }
}

function modified(path: string): number {
  return statSync(path).mtimeMs;
}
