import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import express from 'express';
import fastify from 'fastify';
import { Hono } from 'hono';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { VGGNet } from '../../src/model.js';
import { createHandler, type RequestHandler, toNodeListener } from '../../src/serve/index.js';

/* The handler as a listener of node:http, by itself and in frameworks. */

const LETTER_A = new Uint8Array(readFileSync(new URL('../../examples/images/glyph-A.png', import.meta.url)));
const INFER = '/v2/models/glyphs/infer';

let model: VGGNet;
let handler: RequestHandler;
const closing: (() => unknown)[] = [];

beforeAll(async () => {
  model = await VGGNet.create('glyphs', { device: 'wasm', inline: true, threads: 1 });
  handler = createHandler(model, { layers: ['conv1_1'] });
});
afterAll(() => model.dispose());
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

async function listening(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const serve = (listener: Parameters<typeof createServer>[1]): Promise<string> => listening(createServer(listener));

/** Sends bytes, and gives what is answered until the connection ends or nothing comes for a while. */
function raw(url: string, ...parts: (string | Uint8Array)[]): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const socket = connect(Number(new URL(url).port), '127.0.0.1', () => {
      for (const part of parts) socket.write(part);
    });
    socket.setEncoding('latin1').setTimeout(1500, () => socket.destroy());
    socket.on('data', (data) => {
      text += data;
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(text));
  });
}

async function metric(of: RequestHandler, name: string): Promise<number> {
  const text = await (await of.fetch(new Request('http://localhost/metrics'))).text();
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1] ?? 0);
}

/** What a server with the handler under a path must do. */
async function expectServes(url: string, of: RequestHandler): Promise<void> {
  const before = await metric(of, 'vggnet_images_total');
  const answer = await fetch(`${url}/classify?topK=1`, { method: 'POST', body: LETTER_A });
  expect(answer.status).toBe(200);
  expect(await answer.json()).toMatchObject({ predictions: [{ label: 'A' }] });
  const form = new FormData();
  form.append('image', new Blob([LETTER_A]), 'a.png');
  const many = await fetch(`${url}/classify`, { method: 'POST', body: form });
  expect(await many.json()).toMatchObject({ results: [{ predictions: expect.anything() }] });
  const input = { name: 'input', datatype: 'FP32', shape: [1, 1, 32, 32], data: Array(1024).fill(0) };
  const outputs = [{ name: 'logits' }, { name: 'conv1_1', parameters: { binary_data: true } }];
  const inferred = await fetch(url + INFER, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ inputs: [input], outputs }),
  });
  expect(inferred.status).toBe(200);
  expect((await inferred.arrayBuffer()).byteLength).toBe(Number(inferred.headers.get('content-length')));
  // The same metrics and limits.
  expect(await metric(of, 'vggnet_images_total')).toBe(before + 3);
  const large = await fetch(`${url}/classify`, { method: 'POST', body: new Uint8Array(17 * 2 ** 20) });
  expect(large.status).toBe(413);
  expect((await fetch(`${url}/classify`)).status).toBe(405);
  expect((await fetch(`${url}/v2/health/ready`, { method: 'HEAD' })).status).toBe(200);
}

describe('toNodeListener', () => {
  test('in node:http', async () => {
    const url = await serve(toNodeListener(handler));
    await expectServes(url, handler);
    await expect.poll(() => metric(handler, 'vggnet_requests_active')).toBe(1);
  });

  test('in Express', async () => {
    const app = express();
    app.use('/models', toNodeListener(handler));
    app.get('/own', (_, response) => void response.send('own'));
    const url = await serve(app);
    await expectServes(`${url}/models`, handler);
    expect(await (await fetch(`${url}/own`)).text()).toBe('own');
  });

  test('in Fastify', async () => {
    const app = fastify();
    const listener = toNodeListener(handler);
    await app.register(async (scope) => {
      // The handler reads the body itself.
      scope.removeAllContentTypeParsers();
      scope.addContentTypeParser('*', (_request, _payload, done) => done(null));
      scope.all('/*', (request, reply) => {
        reply.hijack();
        listener(request.raw, reply.raw);
      });
    });
    closing.push(() => app.close());
    await expectServes(await app.listen({ port: 0, host: '127.0.0.1' }), handler);
  });

  test('in Hono, as a fetch handler', async () => {
    const app = new Hono().mount('/models', handler.fetch);
    const url = await serve(getRequestListener(app.fetch));
    const answer = await fetch(`${url}/models/classify?topK=1`, { method: 'POST', body: LETTER_A });
    expect(await answer.json()).toMatchObject({ predictions: [{ label: 'A' }] });
    expect((await fetch(`${url}/models/v2/models/glyphs`)).status).toBe(200);
    expect((await fetch(`${url}/classify`)).status).toBe(404);
  });

  test('answers a second Host header by 400, and bodies that it refuses before they are sent', async () => {
    const url = await serve(toNodeListener(handler));
    expect(await raw(url, 'GET /v2 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 /);
    const large = `POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: ${2 ** 40}\r\n\r\n`;
    expect(await raw(url, large, new Uint8Array(2 ** 16))).toMatch(/^HTTP\/1\.1 413 /);
    expect(await raw(url, 'GET http://other.example/v2 HTTP/1.1\r\nHost: a\r\n\r\n')).toMatch(/^HTTP\/1\.1 200 /);
    expect(await raw(url, 'OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n')).toMatch(/^HTTP\/1\.1 404 /);
  });

  test('asks for a body only when it is read', async () => {
    const server = createServer();
    server.on('checkContinue', toNodeListener(handler));
    const url = await listening(server);
    const head = `Host: a\r\nExpect: 100-continue\r\nContent-Length: ${LETTER_A.length}\r\n\r\n`;
    expect(await raw(url, `POST /classify HTTP/1.1\r\n${head}`)).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\n/);
    expect(await raw(url, `POST /nowhere HTTP/1.1\r\n${head}`)).toMatch(/^HTTP\/1\.1 404 /);
  });

  test('a client that hangs up is a 499 that no log tells of, and all that it held is given back', async () => {
    const told: unknown[] = [];
    const watched = createHandler(model, { onError: (error) => told.push(error) });
    const url = await serve(toNodeListener(watched));
    for (let i = 0; i < 10; i++) {
      const socket = connect(Number(new URL(url).port), '127.0.0.1');
      socket.write('POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\nab');
      await new Promise((resolve) => setTimeout(resolve, 20));
      socket.destroy();
    }
    const hungUp = 'vggnet_requests_total{route="/classify",status="499"}';
    await expect.poll(() => metric(watched, hungUp.replace(/[{}]/g, '\\$&'))).toBe(10);
    expect(await metric(watched, 'vggnet_body_bytes')).toBe(0);
    await expect.poll(() => metric(watched, 'vggnet_requests_active')).toBe(1);
    expect(told).toEqual([]);
  });

  test('an answer that is not read is cut, and its memory given back', async () => {
    const strict = createHandler(model, { layers: ['conv1_1'], stallTimeout: 300 });
    const url = await serve(toNodeListener(strict, { answerTimeout: 1000 }));
    const shape = [1, 1, 512, 512];
    const input = { name: 'input', datatype: 'FP32', shape, parameters: { binary_data_size: 2 ** 20 } };
    const outputs = [{ name: 'conv1_1', parameters: { binary_data: true } }];
    const json = JSON.stringify({ inputs: [input], outputs });
    const socket = connect(Number(new URL(url).port), '127.0.0.1');
    closing.push(() => socket.destroy());
    socket.pause();
    const closed = new Promise((resolve) => socket.on('close', resolve));
    socket.on('error', () => {});
    socket.write(
      `POST ${INFER} HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: ${json.length}\r\nContent-Length: ${json.length + 2 ** 20}\r\n\r\n${json}`,
    );
    socket.write(new Uint8Array(2 ** 20));
    await expect.poll(() => metric(strict, 'vggnet_output_bytes'), { timeout: 20_000 }).toBeGreaterThan(20_000_000);
    await expect.poll(() => metric(strict, 'vggnet_output_bytes'), { timeout: 20_000 }).toBe(0);
    await expect.poll(() => metric(strict, 'vggnet_requests_active'), { timeout: 20_000 }).toBe(1);
    socket.resume();
    await closed;
  });

  test('drain waits until answers were sent, and asks for connections to be closed', async () => {
    const own = createHandler(model);
    const url = await serve(toNodeListener(own));
    const draining = own.drain({ delay: 300 });
    expect((await fetch(`${url}/v2/health/ready`)).status).toBe(503);
    const during = await fetch(`${url}/classify`, { method: 'POST', body: LETTER_A });
    expect(during.status).toBe(200);
    expect(during.headers.get('connection')).toBe('close');
    await during.text();
    await draining;
    expect((await fetch(`${url}/classify`, { method: 'POST', body: LETTER_A })).status).toBe(503);
    expect((await fetch(`${url}/v2/health/live`)).status).toBe(200);
  });
});
