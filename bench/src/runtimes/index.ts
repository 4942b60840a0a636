import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Unavailable } from '../job.js';
import type { Runtime } from '../session.js';
import { browserRuntimes } from './browsers.js';
import { ProcessRuntime } from './process.js';

/** The Node that runs the suite itself: the machine's. */
export const MACHINE_NODE = 'node';

/** Every runtime that the suite knows, whether it is here or not. */
export function createRuntimes(benchFolder: string): Map<string, Runtime> {
  const script = join(benchFolder, '.cache/build/worker.mjs');
  const installed = (path: string): (() => string) => {
    return () => {
      const full = join(benchFolder, 'node_modules', path);
      if (!existsSync(full))
        throw new Unavailable(`not installed: bench/node_modules/${path} is missing (npm --prefix bench install)`);
      return full;
    };
  };
  const exe = process.platform === 'win32' ? '.exe' : '';
  const runtimes: Runtime[] = [
    new ProcessRuntime({ name: MACHINE_NODE, find: () => process.execPath, script }),
    new ProcessRuntime({ name: 'node24', find: installed(`node24/bin/node${exe}`), script }),
    new ProcessRuntime({ name: 'node26', find: installed(`node26/bin/node${exe}`), script }),
    new ProcessRuntime({
      name: 'deno',
      find: installed(`deno/deno${exe}`),
      args: ['run', '--allow-all', '--no-lock', '--no-prompt'],
      env: { DENO_NO_UPDATE_CHECK: '1' },
      script,
    }),
    new ProcessRuntime({ name: 'bun', find: installed('bun/bin/bun.exe'), args: ['run'], script }),
    ...browserRuntimes(benchFolder),
  ];
  return new Map(runtimes.map((runtime) => [runtime.name, runtime]));
}
