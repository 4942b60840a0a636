import { type ChildProcess, execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import { type Finished, repositoryFile, vggnet } from './run.js';

export const LETTER: Uint8Array<ArrayBuffer> = readFileSync(repositoryFile('examples/images/glyph-W.png'));

/** A server in a process of its own. */
export interface Running {
  readonly url: string;
  readonly child: ChildProcess;
  readonly ended: Promise<Finished>;
}

/** Starts `vggnet serve` on a free port, which ends without a delay, and waits until it listens. */
export function start(...args: string[]): Promise<Running> {
  return startWith({}, ...args);
}

/** The same with variables of the environment. */
export function startWith(env: Readonly<Record<string, string>>, ...args: string[]): Promise<Running> {
  return new Promise((resolve, reject) => {
    let child: ChildProcess;
    let output = '';
    const begun = (process: ChildProcess): void => {
      child = process;
      child.stdout?.on('data', (text: string) => {
        output += text;
        const url = /^Listening on (\S+)$/m.exec(output)?.[1];
        if (url) resolve({ url, child, ended });
      });
    };
    const ended = vggnet(['serve', '--port', '0', '--drain-delay', '0', ...args], begun, env);
    ended.then(({ stderr }) => reject(new Error(`vggnet serve ended: ${stderr}`)), reject);
  });
}

/** Asks what the letter W is. */
export function classify(url: string): Promise<Response> {
  return fetch(new URL('/classify', url), { method: 'POST', body: LETTER });
}

/** Fails if the letter is not read. */
export async function expectServes({ url }: Running): Promise<void> {
  const response = await classify(url);
  expect(response.status).toBe(200);
  expect((await response.json()).predictions[0].label).toBe('W');
}

/** The memory that its process has. */
export function residentMiB({ child: { pid } }: Running): number {
  if (process.platform !== 'linux') return Number(execFileSync('ps', ['-o', 'rss=', '-p', String(pid)])) / 1024;
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}
