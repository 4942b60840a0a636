import { createReadStream } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Miniflare } from 'miniflare';
import { WebSocket } from 'undici';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ROOT } from '../support/project.js';
import { bundleWorker, COMPATIBILITY_DATE, modulesOf } from './workerd.js';

/* VGG16 in the memory of an edge worker: 128 MB. */

const { saveFile, Tensor, VGGNet } = (await import(
  new URL('../../dist/index.js', import.meta.url).href
)) as typeof import('vggnet');

const LIMIT = 128e6;

let folder: string;
let server: Server;
let expected: Float32Array;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vggnet-edge-'));
  const path = join(folder, 'vgg16.safetensors');
  using model = await VGGNet.create('vgg16', {
    device: 'wasm',
    threads: 1,
    deterministic: true,
    precision: { default: 'int8', fc: 'int4' },
  });
  expect(await saveFile(path, model.save())).toBeLessThan(85e6);
  expected = (await model.forward(Tensor.randn([1, 3, 224, 224], { seed: 1 }))).data;
  server = createServer((_, response) => createReadStream(path).pipe(response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
}, 120_000);
afterAll(async () => {
  server.close();
  await rm(folder, { recursive: true });
});

function cosine(a: Float32Array, b: Float32Array): number {
  const dot = (x: Float32Array, y: Float32Array): number =>
    x.reduce((sum, value, i) => sum + value * (y[i] as number), 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

/** The most that an isolate has had of JavaScript's heap and of buffers, asked for by its inspector again and again. */
class HeapMeter {
  readonly #socket: WebSocket;
  readonly #timer: NodeJS.Timeout;
  most = 0;

  static async open(url: URL): Promise<HeapMeter> {
    const targets = (await (await fetch(new URL('/json', `http://${url.host}`))).json()) as {
      webSocketDebuggerUrl: string;
    }[];
    const socket = new WebSocket(targets[0]?.webSocketDebuggerUrl ?? '');
    await new Promise((resolve, reject) => {
      socket.addEventListener('open', resolve);
      socket.addEventListener('error', reject);
    });
    return new HeapMeter(socket);
  }

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => {
      const { result } = JSON.parse(String(data)) as { result: { totalSize: number; backingStorageSize: number } };
      this.most = Math.max(this.most, result.totalSize + result.backingStorageSize);
    });
    this.#timer = setInterval(() => socket.send(JSON.stringify({ id: 1, method: 'Runtime.getHeapUsage' })), 10);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#socket.close();
  }
}

/** Bytes that a process has for itself, without its program's code. */
async function ownMemory(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return 1024 * Number(status.match(/^RssAnon:\s*(\d+) kB$/m)?.[1]);
}

/** The one child of this process that runs this program. */
async function childOf(program: string): Promise<number> {
  const children = (await readFile(`/proc/self/task/${process.pid}/children`, 'utf8')).trim().split(' ');
  for (const pid of children) {
    if ((await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0')[0]?.endsWith(program)) return Number(pid);
  }
  throw new Error(`no ${program} among ${children}`);
}

test('VGG16 in int8 and int4 is streamed from a URL and run within 128 MB in workerd', {
  timeout: 120_000,
}, async () => {
  const bundle = await bundleWorker(fileURLToPath(new URL('vgg16-worker.ts', import.meta.url)), ROOT);
  const worker = new Miniflare({
    modules: modulesOf(bundle),
    modulesRoot: '/',
    compatibilityDate: COMPATIBILITY_DATE,
    inspectorPort: 0,
    bindings: { WEIGHTS: `http://127.0.0.1:${(server.address() as AddressInfo).port}/vgg16.safetensors` },
  });
  try {
    const url = await worker.ready;
    const pid = await childOf('workerd');
    const before = await ownMemory(pid);
    const heap = await HeapMeter.open(await worker.getInspectorURL());
    const loaded = await fetch(new URL('/load', url));
    expect(loaded.status, await loaded.clone().text()).toBe(200);
    expect(await loaded.json()).toMatchObject({ backend: 'wasm', inline: true, threads: 1 });
    let wasm = 0;
    for (let i = 0; i < 3; i++) {
      const response = await fetch(new URL('/forward', url));
      expect(response.status).toBe(200);
      wasm = Number(response.headers.get('wasm-bytes'));
      const logits = new Float32Array(await response.arrayBuffer());
      // Those expected are of the same weights, with activations in float32.
      expect(cosine(logits, expected)).toBeGreaterThan(0.999);
    }
    heap.close();
    const process = (await ownMemory(pid)) - before;
    const mb = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;
    console.log(
      `workerd: WebAssembly ${mb(wasm)}, at most ${mb(heap.most)} besides; its process grew by ${mb(process)}`,
    );
    expect(wasm).toBeGreaterThan(80e6);
    expect(heap.most).toBeGreaterThan(1e6);
    expect(wasm + heap.most).toBeLessThan(LIMIT);
  } finally {
    await worker.dispose();
  }
});
