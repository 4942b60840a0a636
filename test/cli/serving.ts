import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { type Finished, repositoryFile, vggnet } from './run.js';

export const LETTER: Uint8Array<ArrayBuffer> = readFileSync(repositoryFile('examples/images/glyph-W.png'));

/** A server in a process of its own. */
export interface Running {
  readonly url: string;
  readonly child: ChildProcess;
  readonly ended: Promise<Finished>;
}

/** Starts `vggnet serve` on a free port, and waits until it listens. */
export function start(...args: string[]): Promise<Running> {
  return new Promise((resolve, reject) => {
    let child: ChildProcess;
    let output = '';
    const ended = vggnet(['serve', '--port', '0', ...args], (process) => {
      child = process;
      child.stdout?.on('data', (text: string) => {
        output += text;
        const url = /^Listening on (\S+)$/m.exec(output)?.[1];
        if (url) resolve({ url, child, ended });
      });
    });
    ended.then(({ stderr }) => reject(new Error(`vggnet serve ended: ${stderr}`)), reject);
  });
}

/** Asks what the letter W is. */
export function classify(url: string): Promise<Response> {
  return fetch(new URL('/classify', url), { method: 'POST', body: LETTER });
}
