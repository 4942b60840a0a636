import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/* Programs that use the built package in a process of their own. */

export interface Ran {
  /** null if it was killed. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Milliseconds. */
  readonly time: number;
}

export interface RunOptions {
  readonly args?: readonly string[];
  /** Flags of node itself. */
  readonly flags?: readonly string[];
  /** Killed after this many milliseconds; default 30,000. */
  readonly timeout?: number;
  readonly env?: Readonly<Record<string, string>>;
}

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** Runs an ES module given as text, in the repository's folder, where `vggnet` is the built package. */
export function runModule(
  source: string,
  { args = [], flags = [], timeout = 30_000, env }: RunOptions = {},
): Promise<Ran> {
  return run(process.execPath, [...flags, '--input-type=module', '--eval', source, ...args], {
    cwd: ROOT,
    timeout,
    env,
  });
}

export function run(
  command: string,
  args: readonly string[],
  { cwd, timeout = 60_000, env }: { cwd: string; timeout?: number; env?: Readonly<Record<string, string>> | undefined },
): Promise<Ran> {
  const start = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, timeout, killSignal: 'SIGKILL', env: { ...process.env, ...env } });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (data) => {
      stdout += data;
    });
    child.stderr.on('data', (data) => {
      stderr += data;
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr, time: performance.now() - start }));
  });
}
