import { connect } from 'node:net';
import { describe, expect, test } from 'vitest';
import { vggnet } from './run.js';
import { classify, LETTER, start } from './serving.js';

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
    [['--model', '8,M'], 'no official weights'],
  ])('refuses %j as wrong use', async (args, message) => {
    const { code, stderr } = await vggnet(['serve', ...args]);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
  });
});
