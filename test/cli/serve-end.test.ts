import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { classify, expectServes, LETTER, type Running, start } from './serving.js';

/* How `vggnet serve` starts and ends, and whom it lets wait. */

const running: Running[] = [];
const sockets: Socket[] = [];

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const { child, ended } of running.splice(0)) {
    child.kill('SIGKILL');
    await ended;
  }
});

async function started(...args: string[]): Promise<Running> {
  const server = await start('--device', 'wasm', ...args);
  running.push(server);
  return server;
}

interface Client {
  readonly socket: Socket;
  readonly closed: Promise<string>;
  readonly isOpen: () => boolean;
}

/** A connection that says so much. */
function client({ url }: Running, text = ''): Promise<Client> {
  return new Promise((resolve) => {
    let answer = '';
    let open = true;
    const socket = connect(Number(new URL(url).port), '127.0.0.1', () => {
      socket.write(text);
      resolve({ socket, closed, isOpen: () => open });
    });
    sockets.push(socket);
    socket.setEncoding('latin1').on('data', (data) => {
      answer += data;
    });
    socket.on('error', () => {});
    const closed = new Promise<string>((done) => {
      socket.on('close', () => {
        open = false;
        done(answer);
      });
    });
  });
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const status = async (server: Running, path: string): Promise<number> =>
  (await fetch(new URL(path, server.url))).status;
const readiness = (server: Running): Promise<number> => status(server, '/v2/health/ready');

describe('vggnet serve', () => {
  test('ends by 1 when its model cannot be loaded, also with a connection open', async () => {
    const server = await start('--weights', 'missing.safetensors');
    running.push(server);
    await client(server);
    const { code, stderr } = await server.ended;
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(/^vggnet: .*missing\.safetensors.* \(IO\)\n$/),
    });
  });

  test('is live at once, and ready when the model is loaded', async () => {
    const server = await started();
    expect(await status(server, '/v2/health/live')).toBe(200);
    await expect.poll(() => readiness(server), { timeout: 30_000 }).toBe(200);
  });

  test('after SIGTERM it is not ready, answers on, and then ends whoever is silent', { timeout: 60_000 }, async () => {
    const server = await started('--drain-delay', '3000');
    await expectServes(server);
    const silent = await client(server);
    const half = await client(server, 'GET /v2 HTTP/1.1\r\nHo');
    const idle = await client(server, 'GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n');
    const body = await client(server, `POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: ${LETTER.length}\r\n\r\n`);
    body.socket.write(LETTER.subarray(0, 100));
    await sleep(1200);
    server.child.kill('SIGTERM');
    await expect.poll(() => readiness(server)).toBe(503);
    expect(await silent.closed).toBe('');
    expect(await half.closed).toBe('');
    const answer = await classify(server.url);
    expect(answer.status).toBe(200);
    expect(answer.headers.get('connection')).toBe('close');
    expect(idle.isOpen()).toBe(true);
    expect(await idle.closed).toMatch(/^HTTP\/1\.1 200 /);
    // Taken in before the end, and so answered after it.
    body.socket.write(LETTER.subarray(100));
    expect(await body.closed).toMatch(/^HTTP\/1\.1 200 [\s\S]*"label":"W"/);
    expect(await server.ended).toMatchObject({ code: 0, stderr: '' });
  });

  test('what has not ended after the grace is cut, and the exit code says so', async () => {
    const server = await started('--grace', '300');
    await expectServes(server);
    const body = await client(server, 'POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n');
    await sleep(200);
    server.child.kill('SIGTERM');
    const { code, stderr } = await server.ended;
    expect(code).toBe(1);
    expect(stderr).toContain('were cut');
    expect(await body.closed).toBe('');
  });

  test('a second signal ends it at once', async () => {
    const server = await started('--drain-delay', '60000');
    await expectServes(server);
    server.child.kill('SIGTERM');
    await expect.poll(() => readiness(server)).toBe(503);
    server.child.kill('SIGTERM');
    expect((await server.ended).code).toBeNull();
  });

  test('connections that say nothing give way to those that ask', async () => {
    const server = await started('--max-connections', '20');
    const silent = await Promise.all(Array.from({ length: 60 }, () => client(server)));
    await expectServes(server);
    await sleep(100);
    expect(silent.filter(({ isOpen }) => isOpen()).length).toBeLessThan(20);
  });

  test('names that could be rebound are refused on loopback, and not with a token', async () => {
    const server = await started();
    const evil = await client(server, 'GET /v2 HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n');
    expect(await evil.closed).toMatch(/^HTTP\/1\.1 403 /);
    const own = await client(server, 'GET /v2 HTTP/1.1\r\nHost: localhost:80\r\nConnection: close\r\n\r\n');
    expect(await own.closed).toMatch(/^HTTP\/1\.1 200 /);
    const named = await started('--allowed-hosts', 'good.example');
    const good = await client(named, 'GET /v2 HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\n\r\n');
    expect(await good.closed).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('an address that others reach is warned of where no token is set', async () => {
    const server = await started('--host', '0.0.0.0');
    server.child.kill('SIGTERM');
    expect((await server.ended).stderr).toMatch(/^vggnet: Whoever reaches \S+ can use this server: set VGGNET_TOKEN/);
  });

  test('threads, precision, memory and layers are flags', async () => {
    const flags = ['--threads', '1', '--precision', 'fp16', '--memory-limit', '200000000', '--layers', 'relu2_1'];
    const server = await started(...flags);
    await expectServes(server);
    const model = (await (await fetch(new URL('/v2/models/glyphs', server.url))).json()) as { outputs: object[] };
    expect(model.outputs).toContainEqual({ name: 'relu2_1', datatype: 'FP32' });
    server.child.kill('SIGTERM');
    expect((await server.ended).stdout).toContain('1 thread');
  });
});
