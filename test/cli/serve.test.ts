import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { describe, expect, test } from 'vitest';
import { type Finished, repositoryFile, vggnet } from './run.js';

const LETTER = readFileSync(repositoryFile('examples/images/glyph-W.png'));

interface Running {
  readonly url: string;
  readonly child: ChildProcess;
  readonly ended: Promise<Finished>;
}

/** Starts `vggnet serve` on a free port, and waits until it listens. */
function start(...args: string[]): Promise<Running> {
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

const classify = (url: string): Promise<Response> => fetch(new URL('/classify', url), { method: 'POST', body: LETTER });

describe('vggnet serve', () => {
  test('answers until SIGTERM, lets the request in progress end, and exits by 0', async () => {
    const { url, child, ended } = await start();
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/$/);
    const response = await classify(url);
    expect(response.status).toBe(200);
    expect((await response.json()).predictions[0].label).toBe('W');
    // A request whose body is still on its way when the signal comes.
    const { port } = new URL(url);
    const socket = connect(Number(port), '127.0.0.1');
    let answer = '';
    socket.setEncoding('utf8').on('data', (text) => {
      answer += text;
    });
    socket.write(`POST /classify HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${LETTER.length}\r\n\r\n`);
    socket.write(LETTER.subarray(0, 100));
    await new Promise((resolve) => setTimeout(resolve, 200));
    child.kill('SIGTERM');
    await new Promise((resolve) => setTimeout(resolve, 200));
    socket.write(LETTER.subarray(100));
    const { code, stderr } = await ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    expect(answer).toContain('"label":"W"');
  });

  test('a port in use is a typed error', async () => {
    const { url, child, ended } = await start();
    const { code, stderr } = await vggnet(['serve', '--port', new URL(url).port]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^vggnet: Cannot listen on http:\/\/127\.0\.0\.1:\d+\/: .*EADDRINUSE.* \(IO\)\n$/);
    child.kill('SIGINT');
    expect((await ended).code).toBe(0);
  });

  test.each([
    [['--max-batch', '0'], '--max-batch'],
    [['--port', '70000'], '--port'],
    [['--cors', 'nowhere'], 'cors must be'],
    [['--model', 'vgg16'], 'needs weights'],
  ])('refuses %j as wrong use', async (args, message) => {
    const { code, stderr } = await vggnet(['serve', ...args]);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
  });
});
