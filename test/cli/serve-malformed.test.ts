import { connect } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { expectServes, LETTER, type Running, residentMiB, start } from './serving.js';

/* `vggnet serve` with requests that are no good. */

/** Half of them come first, as the memory of a process that has just started grows until it has been full once. */
const MALFORMED = 20_000;
/** Of them bodies that never end. */
const SLOW = 400;
const AT_ONCE = 20;
/** MiB that the process may grow by in the last quarter. */
const GROWTH = 32;

let server: Running;

beforeAll(async () => {
  server = await start('--device', 'wasm', '--timeout', '3000');
});
afterAll(async () => {
  server.child.kill('SIGTERM');
  expect(await server.ended).toMatchObject({ code: 0, stderr: '' });
});

const post = (path: string, body: BodyInit, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(new URL(path, server.url), { method: 'POST', body, headers });
const infer = (document: unknown): Promise<Response> =>
  post('/v2/models/glyphs/infer', JSON.stringify(document), { 'Content-Type': 'application/json' });
const tensor = (shape: readonly number[], data: readonly unknown[]): unknown => ({
  inputs: [{ name: 'input', datatype: 'FP32', shape, data }],
});

/** The letter with another width and height in its header. */
function lying(width: number, height: number): Uint8Array<ArrayBuffer> {
  const bytes = Uint8Array.from(LETTER);
  const view = new DataView(bytes.buffer);
  view.setUint32(16, width);
  view.setUint32(20, height);
  return bytes;
}

/** A body that comes a byte at a time, and never ends; what is answered until the connection does. */
function slow(i: number): Promise<string> {
  return new Promise((resolve) => {
    const { port, hostname } = new URL(server.url);
    let answer = '';
    let drip: NodeJS.Timeout | undefined;
    const socket = connect(Number(port), hostname, () => {
      socket.write(`POST /classify HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${1000 + i}\r\n\r\n`);
      drip = setInterval(() => socket.write('x'), 200);
    });
    socket.setEncoding('utf8').on('data', (part) => {
      answer += part;
    });
    // It may be closed while a byte is on its way.
    socket.on('error', () => {});
    socket.on('close', () => {
      clearInterval(drip);
      resolve(answer);
    });
  });
}

// Each is given a number that it may vary by.
const kinds: Readonly<Record<string, (i: number) => Promise<Response>>> = {
  'a truncated image': (i) => post('/classify', LETTER.subarray(0, i % Math.floor(LETTER.length * 0.7))),
  'an image that lies about its size': (i) => post('/classify', lying(100_000 + i, 100_000)),
  'an image without pixels': (i) => post('/classify', lying(0, i)),
  'text as an image': (i) => post('/classify', `not an image ${i}`),
  'an unknown number of classes': (i) => post(`/classify?topK=${37 + i}`, Uint8Array.from(LETTER)),
  'a form without files': (i) => {
    const form = new FormData();
    form.set('text', String(i));
    return post('/classify', form);
  },
  'JSON that is cut': (i) => post('/v2/models/glyphs/infer', JSON.stringify(tensor([1], [i])).slice(0, -3)),
  'a tensor of another shape': (i) => infer(tensor([1, 1, 2, i % 7], [])),
  'fewer values than the shape says': (i) => infer(tensor([1, 1, 32, 32], [i])),
  'values that are no numbers': (i) => infer(tensor([1, 1, 1, 1], [`${i}`])),
  'no inputs': () => infer({}),
  'a binary tensor that is cut': (i) =>
    post('/v2/models/glyphs/infer', new Uint8Array(i % 90), {
      'Content-Type': 'application/octet-stream',
      'Inference-Header-Content-Length': '100',
    }),
  'an unknown model': (i) => fetch(new URL(`/v2/models/model${i}`, server.url)),
  'an unknown path': (i) => fetch(new URL(`/nothing/${i}`, server.url)),
  'a header of 20 kB': (i) => fetch(server.url, { headers: { 'X-Large': 'x'.repeat(20_000 + i) } }),
};

test(`${MALFORMED} of them are refused, and memory stays flat`, { timeout: 180_000 }, async () => {
  await expectServes(server);
  const names = Object.keys(kinds);
  const wrong: string[] = [];
  const slowOnes: Promise<void>[] = [];
  const peaks = [0, 0, 0, 0];
  const send = async (i: number): Promise<void> => {
    const name = names[i % names.length] as string;
    const response = await (kinds[name] as (i: number) => Promise<Response>)(i);
    await response.arrayBuffer();
    if (response.status < 400 || response.status > 499) wrong.push(`${name} (${i}): ${response.status}`);
  };
  const sendSlow = async (i: number): Promise<void> => {
    const answer = await slow(i);
    if (!/^HTTP\/1\.1 (408|504) /.test(answer)) wrong.push(`a slow body (${i}): ${answer}`);
  };
  let next = 0;
  const sender = async (): Promise<void> => {
    for (let i = next++; i < MALFORMED; i = next++) {
      if (i % (MALFORMED / SLOW) === 0) slowOnes.push(sendSlow(i));
      else await send(i);
      const quarter = Math.floor((4 * i) / MALFORMED);
      if (i % 50 === 0) peaks[quarter] = Math.max(peaks[quarter] as number, residentMiB(server));
    }
  };
  const begin = performance.now();
  await Promise.all(Array.from({ length: AT_ONCE }, sender));
  await Promise.all(slowOnes);
  const [, , before, after] = peaks as [number, number, number, number];
  const seconds = (performance.now() - begin) / 1000;
  console.log(
    `${MALFORMED} in ${seconds.toFixed(0)} s; at most ${peaks.map(Math.round).join(', ')} MiB in each quarter`,
  );
  expect(slowOnes).toHaveLength(SLOW);
  expect(wrong).toEqual([]);
  expect(after - before).toBeLessThan(GROWTH);
  await expectServes(server);
});
