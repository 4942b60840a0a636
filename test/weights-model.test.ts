import { mkdtemp, open, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import {
  IMAGENET_PRESET,
  type LoadProgress,
  type NamingScheme,
  saveFile,
  saveSafetensors,
  Tensor,
  VGGNet,
  type WeightsInput,
} from 'vggnet';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectClose } from './support/close.js';
import { bitsOf, bytesOf, createSmall, expectRefused, LIST, OPTIONS, smallInput } from './support/small.js';

const NAMINGS: readonly NamingScheme[] = ['torchvision', 'timm', 'lesson'];
const x = smallInput(2);

/** A model whose weights are not those of the default seed, in `bytes` with its description and in `state` without. */
let source: VGGNet;
let logits: number[];
let bytes: Uint8Array<ArrayBuffer>;
let state: Map<string, Tensor>;
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vggnet-weights-'));
  source = await createSmall({ seed: 3, deterministic: true });
  // Running statistics that are not trivial.
  await source.train().forward(smallInput(4, 9));
  source.eval();
  logits = bitsOf(await source.forward(x));
  bytes = await bytesOf(source.save());
  state = await source.stateDict();
});
afterAll(async () => {
  source.dispose();
  await rm(folder, { recursive: true });
});

async function expectSource(model: VGGNet): Promise<void> {
  expect(bitsOf(await model.forward(x))).toEqual(logits);
  expect(model.training).toBe(false);
}

describe('round trips', () => {
  test.each(NAMINGS)('stateDict, saveSafetensors and create, with the names of %s', async (naming) => {
    const named = await source.stateDict({ naming });
    const first = { torchvision: 'features.0.weight', timm: 'features.0.weight', lesson: 'conv_layers.0.weight' };
    const last = { torchvision: 'classifier.6.bias', timm: 'head.fc.bias', lesson: 'fcs.6.bias' };
    expect([...named.keys()].at(0)).toBe(first[naming]);
    expect([...named.keys()].at(-1)).toBe(last[naming]);
    if (naming === 'timm') {
      expect(named.get('pre_logits.fc1.weight')?.shape).toEqual([16, 16, 2, 2]);
      expect(named.get('pre_logits.fc2.weight')?.shape).toEqual([16, 16, 1, 1]);
    }
    using model = await createSmall({ weights: saveSafetensors(named), deterministic: true });
    await expectSource(model);
    expect(model.incompatibleKeys).toEqual({ missingKeys: [], unexpectedKeys: [] });
    expect([...(await model.stateDict()).keys()]).toEqual([...state.keys()]);
    // What carries no description tells its network by names and shapes.
    using loaded = await VGGNet.load(saveSafetensors(named), { deterministic: true });
    expect(loaded.config).toMatchObject({ ...OPTIONS, architecture: LIST, batchNorm: true, inChannels: 3 });
    await expectSource(loaded);
  });

  test.each(NAMINGS)('save and load with the names of %s bring the whole description back', async (naming) => {
    const preset = { ...IMAGENET_PRESET, crop: 12, resize: 14 };
    const labels = Array.from({ length: 10 }, (_, i) => `number ${i} — «ü»`);
    using model = await createSmall({ weights: bytes, labels, preset, dropout: 0.25, deterministic: true });
    using loaded = await VGGNet.load(model.save({ naming, metadata: { by: 'a test' } }), { deterministic: true });
    expect(loaded.config).toEqual(model.config);
    await expectSource(loaded);
    expect((await loaded.classify(smallInput(), { topK: 1 }))[0]?.label).toMatch(/^number \d — «ü»$/);
  });

  test('F16 halves the file, and rounds the weights', async () => {
    const half = await bytesOf(source.save({ dtype: 'F16' }));
    expect(half.length / bytes.length).toBeLessThan(0.7);
    using model = await VGGNet.load(half);
    const exact = new Float32Array(Uint32Array.from(logits).buffer);
    const got = (await model.forward(x)).data;
    expect(bitsOf(new Tensor(got, [2, 10]))).not.toEqual(logits);
    // 11 bits of mantissa, through five layers of values of about 1.
    expectClose(got, exact, { atol: 2e-3, rtol: 2e-3, what: 'logits of F16 weights' });
  });

  test('stateDict gives copies', async () => {
    for (const { data } of (await source.stateDict()).values()) data.fill(Number.NaN);
    await expectSource(source);
  });

  test('the options of load go before the file’s', async () => {
    const labels = Array.from({ length: 10 }, (_, i) => `l${i}`);
    using model = await VGGNet.load(bytes, { dropout: 0.1, labels, strict: true });
    expect(model.config).toMatchObject({ dropout: 0.1, labels });
    await expectRefused(
      () => VGGNet.load(bytes, { hiddenFeatures: 17 }),
      'WEIGHTS_MISMATCH',
      /\[17, 64\], got \[16, 64\]/,
    );
  });

  test('the embedded model by name', async () => {
    using model = await VGGNet.create('Glyphs');
    expect(model.config).toMatchObject({ name: 'glyphs', inChannels: 1, numClasses: 36 });
    const file = new URL('../models/glyphs.safetensors', import.meta.url);
    using loaded = await VGGNet.load(file);
    expect(loaded.config).toEqual(model.config);
  });
});

describe('every source gives the same model', () => {
  let server: Server;
  let base: string;
  beforeAll(async () => {
    await writeFile(join(folder, 'model.safetensors'), bytes);
    server = createServer((request, response) => {
      if (request.url === '/slow') {
        // Half, and then nothing.
        response.writeHead(200, { 'content-length': bytes.length }).write(bytes.subarray(0, bytes.length >> 1));
      } else if (request.url === '/short') {
        response.writeHead(200).end(bytes.subarray(0, bytes.length - 5));
      } else if (request.url === '/model.safetensors?key=1') {
        response.writeHead(200, { 'content-length': bytes.length }).end(bytes);
      } else {
        response.writeHead(404).end();
      }
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });

  const inputs: Record<string, () => WeightsInput> = {
    path: () => join(folder, 'model.safetensors'),
    'file: URL': () => pathToFileURL(join(folder, 'model.safetensors')),
    'file: URL as a string': () => pathToFileURL(join(folder, 'model.safetensors')).href,
    'data: URL': () => `data:application/octet-stream;base64,${Buffer.from(bytes).toString('base64')}`,
    'http: URL': () => `${base}/model.safetensors?key=1`,
    'http: URL object': () => new URL(`${base}/model.safetensors?key=1`),
    Uint8Array: () => bytes.slice(),
    'a part of a buffer': () => {
      const larger = new Uint8Array(bytes.length + 7);
      larger.set(bytes, 5);
      return larger.subarray(5, 5 + bytes.length);
    },
    Buffer: () => Buffer.from(bytes),
    ArrayBuffer: () => bytes.slice().buffer,
    Blob: () => new Blob([bytes]),
    File: () => new File([bytes], 'model.safetensors'),
    Response: () => new Response(bytes),
    'stream of odd parts': () => streamOf(bytes, 1013),
  };

  test.each(Object.keys(inputs))('%s', async (kind) => {
    const input = inputs[kind] as () => WeightsInput;
    using created = await createSmall({ weights: input(), deterministic: true });
    await expectSource(created);
    using loaded = await VGGNet.load(input(), { deterministic: true, inline: true });
    await expectSource(loaded);
    await created.loadWeights(input());
    await expectSource(created);
  });

  test('bytes are not changed, and are not taken away', async () => {
    const mine = bytes.slice();
    using model = await createSmall({ weights: mine, deterministic: true });
    expect(Buffer.compare(mine, bytes)).toBe(0);
    await expectSource(model);
  });

  test('a file that ends early, and an answer that is none', async () => {
    await expectRefused(() => VGGNet.load(`${base}/short`), 'INVALID_WEIGHTS_FILE', /ends early/);
    await expectRefused(() => VGGNet.load(`${base}/none`), 'IO', '404');
    await expectRefused(() => VGGNet.load(join(folder, 'none')), 'IO', 'ENOENT');
  });

  test('a signal stops a download that gives nothing more, and nothing stays of it', async () => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error('enough')), 50);
    const error = await expectRefused(() => VGGNet.load(`${base}/slow`, { signal: controller.signal }), 'ABORTED');
    expect(error.name).toBe('AbortError');
    expect((error.cause as Error).message).toBe('enough');
    const connections = await new Promise<number>((resolve) => {
      setTimeout(() => server.getConnections((_, count) => resolve(count)), 100);
    });
    expect(connections).toBeLessThanOrEqual(1);
  });

  test('saveFile writes what load reads', async () => {
    const path = join(folder, 'saved.safetensors');
    expect(await saveFile(path, source.save())).toBe(bytes.length);
    expect(Buffer.compare(await readFile(path), bytes)).toBe(0);
  });
});

describe('progress and signals', () => {
  test('onProgress goes up to the size of the file', async () => {
    const seen: LoadProgress[] = [];
    using model = await createSmall({ weights: new Blob([bytes]), onProgress: (progress) => seen.push(progress) });
    await model.forward(x);
    expect(seen.at(-1)).toEqual({ loaded: bytes.length, total: bytes.length });
    expect(seen.map(({ loaded }) => loaded)).toEqual(seen.map(({ loaded }) => loaded).toSorted((a, b) => a - b));
  });

  test('an error in onProgress ends the load with it', async () => {
    const failure = new Error('mine');
    const fail = (): never => {
      throw failure;
    };
    await expect(createSmall({ weights: bytes, onProgress: fail })).rejects.toBe(failure);
    await expect(source.loadWeights(bytes, { onProgress: fail })).rejects.toBe(failure);
    await expectSource(source);
  });

  test.each([false, true])(
    'a signal that has fired, or fires while weights are read or made: inline %s',
    async (inline) => {
      const fired = AbortSignal.abort('now');
      for (const options of [{}, { weights: bytes }]) {
        const error = await expectRefused(() => createSmall({ ...options, inline, signal: fired }), 'ABORTED');
        expect(error.cause).toBe('now');
      }
      // Two seconds of random weights; a stream of which every part fires.
      await expectRefused(() => VGGNet.create('vgg11', { inline, signal: AbortSignal.timeout(20) }), 'ABORTED');
      const controller = new AbortController();
      const stream = streamOf(bytes, 2048, (part) => part === 2 && controller.abort());
      await expectRefused(() => createSmall({ weights: stream, inline, signal: controller.signal }), 'ABORTED');
      // One that fires later does nothing.
      const late = new AbortController();
      using model = await createSmall({ weights: bytes, inline, deterministic: true, signal: late.signal });
      late.abort();
      await expectSource(model);
    },
  );

  test('a signal leaves the model of loadWeights as it was', async () => {
    const controller = new AbortController();
    const other = await bytesOf((await createSmall({ seed: 8 })).save());
    const stream = streamOf(other, 2048, (part) => part === 2 && controller.abort());
    await expectRefused(() => source.loadWeights(stream, { signal: controller.signal }), 'ABORTED');
    await expectSource(source);
  });
});

describe('weights that do not fit', () => {
  /** The state with changes: a tensor, or undefined for none. */
  const changed = (changes: Record<string, Tensor | undefined>): Uint8Array<ArrayBuffer> => {
    const map = new Map<string, Tensor>(state);
    for (const [name, tensor] of Object.entries(changes)) {
      if (tensor) map.set(name, tensor);
      else map.delete(name);
    }
    return saveSafetensors(map);
  };

  test('are refused with all the differences listed, and the model stays as it was to the bit', async () => {
    const wrong = changed({
      'features.0.weight': undefined,
      'features.5.running_var': undefined,
      'features.4.weight': Tensor.zeros([16, 8, 5, 5]),
      'classifier.6.weight': Tensor.zeros([11, 16]),
      'classifier.9.weight': Tensor.zeros([2]),
      extra: Tensor.zeros([1]),
    });
    const parts = [
      '6 differences',
      "'features.0.weight': expected shape [8, 3, 3, 3], got no such tensor",
      "'features.5.running_var': expected shape [16], got no such tensor",
      "'features.4.weight': expected shape [16, 8, 3, 3], got [16, 8, 5, 5]",
      "'classifier.6.weight': expected shape [10, 16], got [11, 16]",
      "'classifier.9.weight': expected no such tensor, got shape [2]",
      "'extra': expected no such tensor, got shape [1]",
    ];
    await expectRefused(() => createSmall({ weights: wrong }), 'WEIGHTS_MISMATCH', ...parts);
    source.train();
    await expectRefused(() => source.loadWeights(wrong), 'WEIGHTS_MISMATCH', ...parts);
    // Also the mode.
    expect(source.training).toBe(true);
    source.eval();
    await expectSource(source);
  });

  test('a file that ends within its last tensor leaves the model as it was', async () => {
    const other = await bytesOf((await createSmall({ seed: 8 })).save());
    for (const end of [other.length - 1, other.length >> 1, 100, 8, 3, 0]) {
      await expectRefused(() => source.loadWeights(streamOf(other.subarray(0, end), 4096)), 'INVALID_WEIGHTS_FILE');
      await expectRefused(() => source.loadWeights(other.subarray(0, end)), 'INVALID_WEIGHTS_FILE');
    }
    await expectSource(source);
  });

  test('weights of a network without batch norm, and of another list', async () => {
    const plain = await bytesOf((await createSmall({ batchNorm: false })).save());
    await expectRefused(() => createSmall({ weights: plain }), 'WEIGHTS_MISMATCH', 'running_mean');
    const other = await bytesOf((await VGGNet.create([8, 8, 'M', 16, 'M'], OPTIONS)).save());
    await expectRefused(() => createSmall({ weights: other }), 'WEIGHTS_MISMATCH', 'features.3');
  });

  test('strict: false fills in what is missing and passes over what is too many, and says so', async () => {
    const wrong = changed({ 'features.0.weight': undefined, extra: Tensor.zeros([1]) });
    using model = await createSmall({ weights: wrong, strict: false, seed: 3, deterministic: true });
    const keys = { missingKeys: ['features.0.weight'], unexpectedKeys: ['extra'] };
    expect(model.incompatibleKeys).toEqual(keys);
    // The seed is the one with which the source was made.
    await expectSource(model);
    using other = await createSmall({ weights: wrong, strict: false, seed: 4 });
    expect(bitsOf(await other.forward(x))).not.toEqual(logits);
    const misshapen = changed({ 'features.4.weight': Tensor.zeros([16, 8, 5, 5]) });
    await expectRefused(() => createSmall({ weights: misshapen, strict: false }), 'WEIGHTS_MISMATCH', '[16, 8, 5, 5]');
    expect(await other.loadWeights(wrong, { strict: false, seed: 3 })).toEqual(keys);
    expect(other.incompatibleKeys).toEqual(keys);
  });

  test('another number of classes makes a new head, from the seed', async () => {
    const options = { weights: bytes, numClasses: 3, strict: false, deterministic: true };
    await expectRefused(() => createSmall({ ...options, strict: true }), 'WEIGHTS_MISMATCH', '[3, 16], got [10, 16]');
    using model = await createSmall({ ...options, seed: 1 });
    using again = await VGGNet.load(bytes, { numClasses: 3, strict: false, deterministic: true, seed: 1 });
    const head = ['classifier.6.weight', 'classifier.6.bias'];
    expect(model.incompatibleKeys).toEqual({ missingKeys: head, unexpectedKeys: [] });
    const [fc7, theirs] = [await model.features(x, ['fc7', 'fc8']), await source.features(x, ['fc7'])];
    expect(bitsOf(fc7.fc7)).toEqual(bitsOf(theirs.fc7));
    expect(fc7.fc8.shape).toEqual([2, 3]);
    expect(bitsOf(await again.forward(x))).toEqual(bitsOf(fc7.fc8));
    using other = await createSmall({ ...options, seed: 2 });
    expect(bitsOf(await other.forward(x))).not.toEqual(bitsOf(fc7.fc8));
  });

  test('a description that lies is refused', async () => {
    const lie = (text: string): Uint8Array => saveSafetensors(state, { metadata: { vggnet: text } });
    for (const text of ['', '{', '[]', '{"name":"x"}', JSON.stringify({ ...source.config, numClasses: 1e9 })]) {
      await expectRefused(() => VGGNet.load(lie(text)), 'INVALID_WEIGHTS_FILE', 'description');
    }
    const other = JSON.stringify({ ...source.config, hiddenFeatures: 99 });
    await expectRefused(() => VGGNet.load(lie(other)), 'WEIGHTS_MISMATCH', '[99, 64], got [16, 64]');
  });
});

describe('files are closed', () => {
  /** Descriptors of this process that are of the file. */
  async function openOf(path: string): Promise<number> {
    const targets = (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ''));
    return (await Promise.all(targets)).filter((target) => target === path).length;
  }

  test.runIf(process.platform === 'linux')('also when an option is refused after the file was opened', async () => {
    const path = join(folder, 'closed.safetensors');
    await writeFile(path, bytes);
    const handle = await open(path);
    expect(await openOf(path)).toBe(1);
    await handle.close();
    const refused = [
      () => createSmall({ weights: path, labels: ['a'] }),
      () => createSmall({ weights: path, device: 'webgpu', gpuDevice: {} as never }),
      () => createSmall({ weights: path, seed: -1 }),
      () => createSmall({ weights: path, numClasses: 11 }),
      () => createSmall({ weights: path, init: 'zeros' as never, strict: false, numClasses: 4 }),
      () => VGGNet.load(path, { device: 'webgpu', gpuDevice: {} as never }),
      () => VGGNet.load(path, { poolSize: 0 }),
      () => VGGNet.load(path, { preset: { ...IMAGENET_PRESET, mode: 'L', mean: [0], std: [1] } }),
    ];
    for (const call of refused) {
      await expect(call()).rejects.toMatchObject({ name: 'VGGNetError' });
      expect(await openOf(path), String(call)).toBe(0);
    }
    using model = await createSmall({ weights: path });
    await model.loadWeights(path);
    expect(await openOf(path)).toBe(0);
  });
});

describe('loadWeights and forwards at once', () => {
  /** A network of which five forwards take longer than a load. */
  const createSlow = (seed: number): Promise<VGGNet> =>
    VGGNet.create([32, 32, 32, 32, 'M', 8], { ...OPTIONS, seed, deterministic: true });
  const large = Tensor.randn([1, 3, 128, 128]);

  test('a forward that began with the old weights ends with them, and one that begins later has the new', async () => {
    using model = await createSlow(1);
    using other = await createSlow(2);
    const [old, fresh] = [bitsOf(await model.forward(large)), bitsOf(await other.forward(large))];
    expect(old).not.toEqual(fresh);
    const file = await bytesOf(other.save());
    let done = 0;
    const before = Array.from({ length: 5 }, () => model.forward(large).finally(() => done++));
    const loading = model.loadWeights(file);
    const meanwhile = model.forward(large);
    await loading;
    expect(bitsOf(await model.forward(large))).toEqual(fresh);
    for (const forward of before) expect(bitsOf(await forward)).toEqual(old);
    expect([old, fresh]).toContainEqual(bitsOf(await meanwhile));
    expect(done).toBe(5);
  });

  test('dispose ends a load, and the forwards with the old weights that it waits for', async () => {
    const model = await createSlow(1);
    const file = await bytesOf(model.save());
    const forwards = Array.from({ length: 80 }, () => model.forward(large));
    let loaded = false;
    const stream = streamOf(file, file.length, (part) => {
      loaded = part === 1;
    });
    const loading = model.loadWeights(stream);
    // Read to its end; the new weights are in place a moment later, long before the forwards are done.
    await expect.poll(() => loaded).toBe(true);
    await new Promise((resolve) => setTimeout(resolve, 200));
    model.dispose();
    await expectRefused(() => forwards.at(-1), 'DISPOSED');
    await Promise.allSettled([loading, ...forwards]);
    await expectRefused(() => model.forward(large), 'DISPOSED');
    const early = await createSmall();
    const pending = early.loadWeights(bytes);
    early.dispose();
    await expectRefused(() => pending, 'DISPOSED');
  });

  test('of loads at once the one asked for last counts, however long they take', async () => {
    using model = await createSmall({ deterministic: true });
    const other = await bytesOf((await createSmall({ seed: 8 })).save());
    const slow = model.loadWeights(streamOf(other, 100));
    const bad = model.loadWeights(streamOf(bytes.subarray(0, 500), 100));
    const last = model.loadWeights(bytes);
    await expectRefused(() => bad, 'INVALID_WEIGHTS_FILE');
    await Promise.all([slow, last]);
    await expectSource(model);
  });
});

function streamOf(
  data: Uint8Array<ArrayBuffer>,
  partBytes: number,
  onPart: (part: number) => unknown = () => undefined,
): ReadableStream<Uint8Array> {
  let at = 0;
  let part = 0;
  return new ReadableStream({
    async pull(controller) {
      await new Promise((resolve) => setImmediate(resolve));
      onPart(part++);
      if (at >= data.length) return controller.close();
      controller.enqueue(data.slice(at, at + partBytes));
      at += partBytes;
    },
  });
}
