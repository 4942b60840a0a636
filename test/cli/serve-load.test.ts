import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { classify, LETTER, type Running, start } from './serving.js';

/* `vggnet serve` with more requests than it can answer, and with requests that are no good. */

const MALFORMED = 1000;
const AT_ONCE = 20;
/** MiB that the process may have grown by from the first half of the malformed requests to the end of the second. */
const GROWTH = 32;

let server: Running;

beforeAll(async () => {
  server = await start('--device', 'wasm', '--max-queue', '8', '--max-batch', '4', '--timeout', '5000');
});
afterAll(async () => {
  server.child.kill('SIGTERM');
  expect(await server.ended).toMatchObject({ code: 0, stderr: '' });
});

function residentMiB(pid: number): number {
  if (process.platform !== 'linux') return Number(execFileSync('ps', ['-o', 'rss=', '-p', String(pid)])) / 1024;
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}

async function expectServes(): Promise<void> {
  const response = await classify(server.url);
  expect(response.status).toBe(200);
  expect((await response.json()).predictions[0].label).toBe('W');
}

test('an overload is shed by 503 with Retry-After, and over at once', { timeout: 60_000 }, async () => {
  await expectServes();
  const answers = await Promise.all(Array.from({ length: 300 }, () => classify(server.url)));
  const counts = new Map<number, number>();
  for (const { status, headers } of answers) {
    counts.set(status, (counts.get(status) ?? 0) + 1);
    if (status === 503) expect(Number(headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
  }
  await Promise.all(answers.map((answer) => answer.arrayBuffer()));
  expect([...counts.keys()].sort()).toEqual([200, 503]);
  expect(counts.get(200)).toBeGreaterThanOrEqual(8);
  const before = performance.now();
  await expectServes();
  expect(performance.now() - before).toBeLessThan(2000);
});

describe('malformed requests', () => {
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

  /** Sends the start of a request by hand; what is answered until the connection ends. */
  function raw(text: string): Promise<string> {
    return new Promise((resolve) => {
      const { port, hostname } = new URL(server.url);
      let answer = '';
      const socket = connect(Number(port), hostname, () => socket.write(text));
      socket.setEncoding('utf8').on('data', (part) => {
        answer += part;
      });
      socket.on('error', () => {}).on('close', () => resolve(answer));
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

  test(`${MALFORMED} of them are refused, and memory stays flat`, { timeout: 120_000 }, async () => {
    const names = Object.keys(kinds);
    const wrong: string[] = [];
    const send = async (i: number): Promise<void> => {
      const name = names[i % names.length] as string;
      const response = await (kinds[name] as (i: number) => Promise<Response>)(i);
      await response.arrayBuffer();
      if (response.status < 400 || response.status > 499) wrong.push(`${name} (${i}): ${response.status}`);
    };
    const pid = server.child.pid as number;
    let middle = 0;
    for (let first = 0; first < MALFORMED; first += AT_ONCE) {
      await Promise.all(Array.from({ length: AT_ONCE }, (_, i) => send(first + i)));
      if (first < MALFORMED / 2) middle = residentMiB(pid);
    }
    expect(wrong).toEqual([]);
    expect(residentMiB(pid) - middle).toBeLessThan(GROWTH);
    await expectServes();
  });

  test('a body that never ends is given up after the timeout', { timeout: 30_000 }, async () => {
    const head = 'POST /classify HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000\r\n\r\nslow';
    const answers = await Promise.all(Array.from({ length: 10 }, () => raw(head)));
    for (const answer of answers) expect(answer).toMatch(/^HTTP\/1\.1 (408|504) /);
    await expectServes();
  });
});
