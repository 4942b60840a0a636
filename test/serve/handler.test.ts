import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { VGGNetError } from '../../src/errors.js';
import { VGGNet } from '../../src/model.js';
import { createHandler, type RequestHandler, type ServeOptions } from '../../src/serve/index.js';
import { Tensor } from '../../src/tensor.js';
import { VERSION } from '../../src/version.js';

const picture = (name: string): Buffer<ArrayBuffer> =>
  readFileSync(new URL(`../../examples/images/${name}`, import.meta.url));
const LETTER_A = picture('glyph-A.png');
const LETTER_W = picture('glyph-W.png');

let model: VGGNet;
let handler: RequestHandler;

beforeAll(async () => {
  model = await VGGNet.create('glyphs', { device: 'wasm', inline: true, threads: 1 });
  handler = createHandler(model, { layers: ['relu2_1'] });
});
afterAll(() => model.dispose());

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: an answer's JSON is what the test expects it to be
  readonly json: any;
}

async function ask(path: string, init: RequestInit = {}, to: RequestHandler = handler): Promise<Answer> {
  const response = await to.fetch(new Request(`http://localhost${path}`, init));
  const text = await response.text();
  const isJson = response.headers.get('content-type')?.includes('application/json');
  return { status: response.status, headers: response.headers, json: isJson ? JSON.parse(text) : text };
}

const post = (path: string, body: BodyInit, to?: RequestHandler, headers: HeadersInit = {}): Promise<Answer> =>
  ask(path, { method: 'POST', body, headers }, to);

const json = (value: unknown): string => JSON.stringify(value);

describe('POST /classify', () => {
  test('reads an image from the body', async () => {
    const { status, json } = await post('/classify', LETTER_A, undefined, { 'content-type': 'image/png' });
    expect(status).toBe(200);
    expect(json.predictions).toHaveLength(5);
    expect(json).toEqual({ predictions: await model.classify(LETTER_A) });
    expect(json.predictions[0].label).toBe('A');
  });

  test('reads several from a form, each by itself', async () => {
    const form = new FormData();
    form.append('image', new Blob([LETTER_A], { type: 'image/png' }), 'a.png');
    form.append('note', 'not a file');
    form.append('image', new Blob([LETTER_W]), 'w.png');
    const { status, json } = await post('/classify?topK=1', form);
    expect(status).toBe(200);
    const labels = json.results.map(({ predictions }: { predictions: { label: string }[] }) =>
      predictions.map(({ label }) => label),
    );
    expect(labels).toEqual([['A'], ['W']]);
  });

  test.each([
    ['no image', new Uint8Array(0), {}, 400, 'NO_IMAGE'],
    ['no picture', 'hello', { 'content-type': 'image/png' }, 400, 'INVALID_IMAGE'],
    ['a cut picture', LETTER_A.subarray(0, 200), {}, 400, 'INVALID_IMAGE'],
    ['a URL', '{"url":"http://127.0.0.1/"}', { 'content-type': 'application/json' }, 415, 'UNSUPPORTED_MEDIA_TYPE'],
    ['a broken form', 'x', { 'content-type': 'multipart/form-data; boundary=a' }, 400, 'INVALID_FORM'],
  ])('refuses %s', async (_, body, headers, status, code) => {
    expect(await post('/classify', body, undefined, headers as HeadersInit)).toMatchObject({ status, json: { code } });
  });

  test.each(['0', '37', '-1', '1.5', 'x', ''])('refuses topK=%s', async (topK) => {
    const answer = await post(`/classify?topK=${topK}`, LETTER_A);
    expect(answer).toMatchObject({
      status: 400,
      json: { error: `topK must be an integer from 1 to 36, got '${topK}'` },
    });
  });

  test('limits bodies, with and without a length, and pixels before decoding', async () => {
    const small = createHandler(model, { maxBodyBytes: 100 });
    expect(await post('/classify', LETTER_A, small)).toMatchObject({ status: 413, json: { code: 'BODY_TOO_LARGE' } });
    const stream = new Blob([LETTER_A]).stream();
    const request = new Request('http://localhost/classify', {
      method: 'POST',
      body: stream,
      duplex: 'half',
    } as RequestInit);
    expect((await small.fetch(request)).status).toBe(413);
    const held = new Request('http://localhost/classify', { method: 'POST', body: LETTER_A });
    held.headers.set('content-length', '101');
    expect((await small.fetch(held)).status).toBe(413);
    expect(held.bodyUsed).toBe(false);
    const few = createHandler(model, { maxPixels: 100 });
    expect(await post('/classify', LETTER_A, few)).toMatchObject({ status: 413, json: { code: 'IMAGE_TOO_LARGE' } });
  });

  test('takes a decoder for runtimes without one', async () => {
    const decode: ServeOptions['decode'] = async () => ({
      data: new Uint8Array(32 * 32 * 3).fill(255),
      width: 32,
      height: 32,
      channels: 3,
    });
    const answer = await post('/classify', LETTER_A, createHandler(model, { decode }));
    const blank = await model.classify({
      data: new Uint8Array(32 * 32 * 3).fill(255),
      width: 32,
      height: 32,
      channels: 3,
    });
    expect(answer.json.predictions).toEqual(blank);
  });
});

describe('the Open Inference Protocol', () => {
  const side = 32;
  const input = Tensor.randn([2, 1, side, side], { seed: 5 });
  const tensor = { name: 'input', datatype: 'FP32', shape: [2, 1, side, side] };

  test('health and metadata', async () => {
    expect(await ask('/v2/health/live')).toMatchObject({ status: 200, json: { live: true } });
    expect(await ask('/v2/health/ready')).toMatchObject({ status: 200, json: { ready: true } });
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
    expect(VERSION).toBe(version);
    expect((await ask('/v2')).json).toEqual({ name: 'vggnet', version, extensions: ['binary_tensor_data'] });
    const metadata = {
      name: 'glyphs',
      versions: ['1'],
      platform: 'vggnet',
      inputs: [{ name: 'input', datatype: 'FP32', shape: [-1, 1, -1, -1] }],
      outputs: [
        { name: 'logits', datatype: 'FP32', shape: [-1, 36] },
        { name: 'probabilities', datatype: 'FP32', shape: [-1, 36] },
        { name: 'relu2_1', datatype: 'FP32' },
      ],
    };
    expect((await ask('/v2/models/glyphs')).json).toEqual(metadata);
    expect((await ask('/v2/models/glyphs/versions/1')).json).toEqual(metadata);
    expect((await ask('/v2/models/glyphs/ready')).json).toEqual({ ready: true });
    expect(await ask('/v2/models/vgg16')).toMatchObject({ status: 404, json: { code: 'UNKNOWN_MODEL' } });
    expect(await ask('/v2/models/glyphs/versions/2/ready')).toMatchObject({ status: 404 });
  });

  test('infers from JSON, flat or nested', async () => {
    const logits = await model.forward(input);
    const flat = await post(
      '/v2/models/glyphs/infer',
      json({ id: 'q', inputs: [{ ...tensor, data: [...input.data] }] }),
    );
    expect(flat.status).toBe(200);
    expect(flat.json).toEqual({
      model_name: 'glyphs',
      model_version: '1',
      id: 'q',
      outputs: [{ name: 'logits', datatype: 'FP32', shape: [2, 36], data: [...logits.data] }],
    });
    const rows = Array.from({ length: 2 * side }, (_, i) => [...input.data.subarray(i * side, (i + 1) * side)]);
    const nested = [[rows.slice(0, side)], [rows.slice(side)]];
    const again = await post('/v2/models/glyphs/versions/1/infer', json({ inputs: [{ ...tensor, data: nested }] }));
    expect(again.json.outputs).toEqual(flat.json.outputs);
  });

  test('infers with binary tensors, both ways, and gives any layer', async () => {
    const outputs = [{ name: 'probabilities' }, { name: 'relu2_1', parameters: { binary_data: true } }];
    const head = new TextEncoder().encode(
      json({ inputs: [{ ...tensor, parameters: { binary_data_size: input.data.byteLength } }], outputs }),
    );
    const body = new Blob([head, new Uint8Array(input.data.buffer as ArrayBuffer)]);
    const response = await handler.fetch(
      new Request('http://localhost/v2/models/glyphs/infer', {
        method: 'POST',
        body,
        headers: { 'Inference-Header-Content-Length': String(head.length) },
      }),
    );
    expect(response.status).toBe(200);
    const bytes = Buffer.from(await response.arrayBuffer());
    const length = Number(response.headers.get('Inference-Header-Content-Length'));
    const described = JSON.parse(bytes.subarray(0, length).toString());
    const taps = await model.features(input, ['prob', 'relu2_1']);
    expect(described.outputs[0].data).toEqual([...taps.prob.data]);
    expect(described.outputs[1].shape).toEqual(taps.relu2_1.shape);
    const expected = Buffer.from(taps.relu2_1.data.buffer, taps.relu2_1.data.byteOffset, taps.relu2_1.data.byteLength);
    expect(described.outputs[1].parameters.binary_data_size).toBe(expected.length);
    expect(Buffer.compare(bytes.subarray(length), expected)).toBe(0);
  });

  const data = new Array(side * side).fill(0);
  const good = { name: 'input', datatype: 'FP32', shape: [1, 1, side, side], data };
  test.each([
    ['no JSON', '{', 'not JSON'],
    ['no object', '[]', 'must be an object'],
    ['no inputs', json({}), 'inputs must be a list of one tensor'],
    ['two inputs', json({ inputs: [good, good] }), 'inputs must be a list of one tensor'],
    ['another name', json({ inputs: [{ ...good, name: 'x' }] }), `The model's input is 'input', got "x"`],
    ['another type', json({ inputs: [{ ...good, datatype: 'FP64' }] }), 'datatype must be FP32'],
    ['a bad shape', json({ inputs: [{ ...good, shape: [1, -1, 32, 32] }] }), 'shape must be [N, C, H, W]'],
    ['too few values', json({ inputs: [{ ...good, data: [1] }] }), 'data must have 1024 numbers'],
    ['no values', json({ inputs: [{ ...good, data: undefined }] }), 'data must be a list of 1024 numbers, got none'],
    ['a text', json({ inputs: [{ ...good, data: [...data.slice(1), 'x'] }] }), 'data[1023] must be a number'],
    [
      'a wrong binary size',
      json({ inputs: [{ ...good, data: undefined, parameters: { binary_data_size: 8 } }] }),
      '4096 bytes',
    ],
    [
      'both',
      json({ inputs: [{ ...good, parameters: { binary_data_size: 4096 } }] }),
      'either data or binary_data_size',
    ],
    ['an unknown output', json({ inputs: [good], outputs: [{ name: 'relu9_9' }] }), "no layer 'relu9_9'"],
    [
      'equal outputs',
      json({ inputs: [good], outputs: [{ name: 'prob' }, { name: 'prob' }] }),
      'differ from each other',
    ],
    ['no outputs', json({ inputs: [good], outputs: [] }), 'at least one name'],
    ['other channels', json({ inputs: [{ ...good, shape: [1, 4, 16, 16] }] }), 'channels'],
    ['an id that is a number', json({ inputs: [good], id: 5 }), 'id must be a string'],
  ])('refuses %s', async (_, body, message) => {
    const answer = await post('/v2/models/glyphs/infer', body);
    expect(answer.status).toBe(400);
    expect(answer.json.error).toContain(message);
  });

  test.each(['-1', '5.5', '100000', 'x'])('refuses a JSON length of %s', async (length) => {
    const headers = { 'Inference-Header-Content-Length': length };
    expect((await post('/v2/models/glyphs/infer', json({ inputs: [good] }), undefined, headers)).status).toBe(400);
  });

  test('says so when an output cannot be JSON', async () => {
    const inputs = [{ ...tensor, shape: [1, 1, side, side], parameters: { binary_data_size: side * side * 4 } }];
    const head = new TextEncoder().encode(json({ inputs }));
    const body = new Blob([head, new Float32Array(side * side).fill(Number.NaN)]);
    const headers = { 'Inference-Header-Content-Length': String(head.length) };
    const answer = await post('/v2/models/glyphs/infer', body, undefined, headers);
    expect(answer).toMatchObject({ status: 422, json: { code: 'NOT_FINITE' } });
  });
});

describe('who may ask', () => {
  test('a token is asked for, but not for health', async () => {
    const guarded = createHandler(model, { token: 'secret-1' });
    const classify = (headers: HeadersInit): Promise<Answer> => post('/classify', LETTER_A, guarded, headers);
    const refused = await classify({});
    expect(refused).toMatchObject({ status: 401, json: { code: 'UNAUTHORIZED' } });
    expect(refused.headers.get('www-authenticate')).toMatch(/^Bearer/);
    expect((await classify({ authorization: 'Bearer secret-2' })).status).toBe(401);
    expect((await classify({ authorization: 'Bearer secret-1' })).status).toBe(200);
    expect((await ask('/metrics', {}, guarded)).status).toBe(401);
    expect((await ask('/v2/health/ready', {}, guarded)).status).toBe(200);
  });

  test('browsers of other origins only where they are allowed', async () => {
    const preflight = {
      method: 'OPTIONS',
      headers: { origin: 'https://a.example', 'access-control-request-method': 'POST' },
    };
    expect((await ask('/classify', preflight)).headers.get('access-control-allow-origin')).toBeNull();
    const open = createHandler(model, { cors: ['https://a.example'] });
    expect((await ask('/classify', preflight, open)).headers.get('access-control-allow-origin')).toBe(
      'https://a.example',
    );
    const other = { ...preflight, headers: { ...preflight.headers, origin: 'https://b.example' } };
    expect((await ask('/classify', other, open)).headers.get('access-control-allow-origin')).toBeNull();
    const answer = await post('/classify', LETTER_A, open, { origin: 'https://a.example' });
    expect(answer.headers.get('access-control-allow-origin')).toBe('https://a.example');
  });

  test.each([
    ['GET', '/classify', 'POST'],
    ['DELETE', '/v2/models/glyphs/infer', 'POST'],
    ['POST', '/metrics', 'GET, HEAD'],
    ['PUT', '/v2/health/live', 'GET, HEAD'],
  ])('%s %s is 405 with Allow', async (method, path, allow) => {
    const answer = await ask(path, { method });
    expect(answer).toMatchObject({ status: 405, json: { code: 'METHOD_NOT_ALLOWED' } });
    expect(answer.headers.get('allow')).toBe(allow);
  });

  test.each([
    ['127.0.0.1:8000', 200],
    ['[::1]:8000', 200],
    ['localhost', 200],
    ['box', 200],
    ['app.localhost:8000', 200],
    ['vgg.example.org', 200],
    ['VGG.Example.Org:80', 200],
    ['a.internal', 200],
    ['evil.example', 403],
    ['localhost.evil.example', 403],
    ['127.0.0.1.evil.example:8000', 403],
    ['localhost.', 403],
    ['xvgg.example.org', 403],
  ])('the host %s is answered by %i', async (host, status) => {
    const guarded = createHandler(model, { allowedHosts: ['vgg.example.org', '.internal'] });
    expect((await ask('/v2', { headers: { host } }, guarded)).status).toBe(status);
    expect((await ask('/v2', { headers: { host } })).status).toBe(200);
  });

  test('what nothing answers is 404, as JSON', async () => {
    expect(await ask('/nowhere')).toMatchObject({ status: 404, json: { code: 'NOT_FOUND' } });
    expect(await ask('/')).toMatchObject({ status: 404, json: { error: 'Nothing answers GET /' } });
  });

  test.each([
    { maxBatch: 0 },
    { maxDelay: -1 },
    { maxQueue: 1.5 },
    { timeout: Number.NaN },
    { maxBodyBytes: '5' },
    { token: '' },
    { token: 'a b' },
    { cors: 'example.org' },
    { decode: 5 },
    { onError: 'x' },
    { layers: 'pool1' },
    { allowedHosts: [5] },
    { maxOutputBytes: 0 },
    { stallTimeout: 0 },
  ])('refuses the option %j', (options) => {
    expect(() => createHandler(model, options as ServeOptions)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    );
  });
});

/** A network whose forward takes as long as one wants. */
function slow(forwards: (() => void)[], aborted: { count: number }): VGGNet {
  const features = (_: Tensor, names: readonly string[], { signal }: { signal?: AbortSignal } = {}) =>
    new Promise<Record<string, Tensor>>((resolve, reject) => {
      signal?.addEventListener('abort', () => {
        aborted.count++;
        reject(new Error('stopped'));
      });
      const row = new Tensor(new Float32Array(36).fill(1 / 36), [1, 36]);
      forwards.push(() => resolve(Object.fromEntries(names.map((name) => [name, row]))));
    });
  return new Proxy(model, {
    get: (target, key) => {
      if (key === 'features') return features;
      const value = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

const soon = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 20));

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 200 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
  expect(condition()).toBe(true);
}

describe('load and faults', () => {
  test('a full queue answers 503 with Retry-After', async () => {
    const forwards: (() => void)[] = [];
    const busy = createHandler(slow(forwards, { count: 0 }), { maxBatch: 1, maxDelay: 0, maxQueue: 1 });
    const first = post('/classify', LETTER_A, busy);
    await until(() => forwards.length === 1);
    const second = post('/classify', LETTER_A, busy);
    await soon();
    const third = await post('/classify', LETTER_A, busy);
    expect(third).toMatchObject({ status: 503, json: { code: 'QUEUE_FULL' } });
    expect(third.headers.get('retry-after')).toBe('1');
    forwards[0]?.();
    await until(() => forwards.length === 2);
    forwards[1]?.();
    expect([(await first).status, (await second).status]).toEqual([200, 200]);
  });

  test('images that are being decoded count as waiting', async () => {
    let decoded = 0;
    let release: () => void = () => {};
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    const image = { data: new Uint8Array(32 * 32 * 4), width: 32, height: 32 };
    const decode = async (): Promise<typeof image> => {
      decoded++;
      await released;
      return image;
    };
    const busy = createHandler(model, { maxBatch: 1, maxDelay: 0, maxQueue: 2, decode });
    const taken = [0, 1, 2].map(() => post('/classify', LETTER_A, busy));
    await until(() => decoded === 3);
    expect(await post('/classify', LETTER_A, busy)).toMatchObject({ status: 503, json: { code: 'QUEUE_FULL' } });
    expect(decoded).toBe(3);
    // Nor is anything read of what is refused.
    const unread = new Request('http://localhost/classify', { method: 'POST', body: LETTER_A });
    expect((await busy.fetch(unread)).status).toBe(503);
    expect(unread.bodyUsed).toBe(false);
    expect((await ask('/metrics', {}, busy)).json).toContain(
      'vggnet_requests_total{route="/classify",status="503"} 2\n',
    );
    release();
    expect((await taken[0])?.status).toBe(200);
    await Promise.all(taken);
  });

  test('a request that takes too long is answered by 504, and its forward is aborted', async () => {
    const aborted = { count: 0 };
    const busy = createHandler(slow([], aborted), { timeout: 200 });
    const blank = { name: 'input', datatype: 'FP32', shape: [1, 1, 32, 32], data: Array(1024).fill(0) };
    const infer = post('/v2/models/glyphs/infer', json({ inputs: [blank] }), busy);
    expect(await infer).toMatchObject({ status: 504, json: { code: 'TIMEOUT' } });
    expect(aborted.count).toBe(1);
    // A body that never ends counts too.
    const stalled = new ReadableStream({ pull: () => new Promise(() => {}) });
    const request = new Request('http://localhost/classify', {
      method: 'POST',
      body: stalled,
      duplex: 'half',
    } as RequestInit);
    expect((await busy.fetch(request)).status).toBe(504);
  });

  test('a client that goes away aborts its forward', async () => {
    const aborted = { count: 0 };
    const forwards: (() => void)[] = [];
    const busy = createHandler(slow(forwards, aborted));
    const client = new AbortController();
    const request = new Request('http://localhost/classify', { method: 'POST', body: LETTER_A, signal: client.signal });
    const answer = busy.fetch(request);
    await until(() => forwards.length === 1);
    client.abort();
    expect((await answer).status).toBe(499);
    expect(aborted.count).toBe(1);
  });

  test('drain lets requests in progress end and refuses others', async () => {
    const forwards: (() => void)[] = [];
    const busy = createHandler(slow(forwards, { count: 0 }));
    const first = post('/classify', LETTER_A, busy);
    await until(() => forwards.length === 1);
    let drained = false;
    const draining = busy.drain().then(() => {
      drained = true;
    });
    expect(await post('/classify', LETTER_A, busy)).toMatchObject({ status: 503, json: { code: 'DRAINING' } });
    expect((await ask('/v2/health/live', {}, busy)).status).toBe(200);
    expect((await ask('/v2/health/ready', {}, busy)).status).toBe(503);
    forwards[0]?.();
    expect((await first).status).toBe(200);
    await draining;
    expect(drained).toBe(true);
    await busy.drain();
  });

  test('a model that fails to load is 503 until it loads', async () => {
    let attempts = 0;
    const reported: unknown[] = [];
    const load = async (): Promise<VGGNet> => {
      attempts++;
      if (attempts < 3) throw new Error('no such bucket');
      return model;
    };
    const flaky = createHandler(load, { onError: (error) => reported.push(error) });
    const unready = await ask('/v2/health/ready', {}, flaky);
    expect(unready).toMatchObject({ status: 503, json: { code: 'NOT_LOADED' } });
    expect(unready.json.error).not.toContain('bucket');
    expect((await post('/classify', LETTER_A, flaky)).status).toBe(503);
    expect((await post('/classify', LETTER_A, flaky)).status).toBe(200);
    expect((await ask('/v2/health/ready', {}, flaky)).status).toBe(200);
    expect(attempts).toBe(3);
    expect(reported).toEqual([new Error('no such bucket'), new Error('no such bucket')]);
  });

  test('a forward that met a crash is run once more, with one thread on a model loaded again', async () => {
    const crash = new VGGNetError('WORKER_CRASHED', 'A worker ended');
    for (const threads of [1, 2]) {
      for (const crashes of [0, 1, 2]) {
        let left = crashes;
        let loads = 0;
        const features = (...args: Parameters<VGGNet['features']>): unknown =>
          left-- > 0 ? Promise.reject(crash) : model.features(...args);
        const crashing = new Proxy(model, {
          get: (target, key) => {
            if (key === 'device') return { ...target.device, threads };
            return key === 'features' ? features : Reflect.get(target, key, target);
          },
        });
        const crashed = createHandler(async () => {
          loads++;
          return crashing;
        });
        const input = { name: 'input', datatype: 'FP32', shape: [1, 1, 32, 32], data: Array(1024).fill(0) };
        const answer = (): Promise<Answer> => post('/v2/models/glyphs/infer', json({ inputs: [input] }), crashed);
        const first = await answer();
        if (crashes < 2) expect(first.status).toBe(200);
        else expect(first).toMatchObject({ status: 503, json: { code: 'WORKER_CRASHED' } });
        expect((await answer()).status).toBe(200);
        expect(loads).toBe(threads === 1 ? 1 + crashes : 1);
      }
    }
  });

  test('an error that nobody foresaw is reported, and not told', async () => {
    const reported: unknown[] = [];
    const broken = new Proxy(model, {
      get: (target, key) =>
        key === 'features' ? () => Promise.reject(new Error('secret')) : Reflect.get(target, key, target),
    });
    const answer = await post(
      '/v2/models/glyphs/infer',
      json({ inputs: [{ name: 'input', datatype: 'FP32', shape: [1, 1, 16, 16], data: Array(256).fill(0) }] }),
      createHandler(broken, { onError: (error) => reported.push(error) }),
    );
    expect(answer).toMatchObject({ status: 500, json: { error: 'The server failed', code: 'UNEXPECTED' } });
    expect(reported).toEqual([new Error('secret')]);
  });

  test('concurrent requests share forwards, and the metrics say so', async () => {
    const counted = createHandler(model, { maxDelay: 20 });
    const answers = await Promise.all(
      Array.from({ length: 16 }, (_, i) => post('/classify', i % 2 ? LETTER_A : LETTER_W, counted)),
    );
    for (const [i, { json }] of answers.entries()) expect(json.predictions[0].label).toBe(i % 2 ? 'A' : 'W');
    await ask('/nowhere', {}, counted);
    const { json: text, headers } = await ask('/metrics', {}, counted);
    expect(headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
    expect(text).toContain('vggnet_requests_total{route="/classify",status="200"} 16\n');
    expect(text).toContain('vggnet_requests_total{route="none",status="404"} 1\n');
    expect(text).toContain('vggnet_images_total 16\n');
    expect(text).toContain('vggnet_requests_waiting 0\n');
    expect(Number(/vggnet_batch_images_count (\d+)/.exec(text)?.[1])).toBeLessThan(16);
    expect(text).toContain('vggnet_request_duration_seconds_bucket{route="/classify",le="+Inf"} 16\n');
  });
});
