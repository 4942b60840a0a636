import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { VGGNet } from '../../src/model.js';
import { createHandler, type RequestHandler, type ServeOptions } from '../../src/serve/index.js';

/* What requests may take of a server, each by itself and together. */

const LETTER_A = new Uint8Array(readFileSync(new URL('../../examples/images/glyph-A.png', import.meta.url)));
const INFER = '/v2/models/glyphs/infer';

let model: VGGNet;
beforeAll(async () => {
  model = await VGGNet.create('glyphs', { device: 'wasm', inline: true, threads: 1 });
});
afterAll(() => model.dispose());

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: an answer's JSON is what the test expects it to be
  readonly json: any;
}

async function post(to: RequestHandler, path: string, body: BodyInit, headers: HeadersInit = {}): Promise<Answer> {
  const init = { method: 'POST', body, headers, duplex: 'half' } as RequestInit;
  const response = await to.fetch(new Request(`http://localhost${path}`, init));
  return { status: response.status, headers: response.headers, json: JSON.parse(await response.text()) };
}

const handler = (options: ServeOptions = {}): RequestHandler => createHandler(model, options);

async function metric(of: RequestHandler, name: string): Promise<number> {
  const text = await (await of.fetch(new Request('http://localhost/metrics'))).text();
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1]);
}

/** A binary tensor of zeros, and what asks for outputs of it. */
function tensor(shape: number[], outputs: object[]): { body: Blob; headers: HeadersInit } {
  const bytes = shape.reduce((product, size) => product * size, 4);
  const input = { name: 'input', datatype: 'FP32', shape, parameters: { binary_data_size: bytes } };
  const head = JSON.stringify({ inputs: [input], outputs });
  return {
    body: new Blob([head, new Uint8Array(bytes)]),
    headers: { 'Inference-Header-Content-Length': String(head.length) },
  };
}

/** A body of which the rest comes when it is asked for. */
function halfBody(length: number): { body: ReadableStream; finish: () => void; fail: () => void } {
  let controller: ReadableStreamDefaultController | undefined;
  const body = new ReadableStream({
    start(its) {
      controller = its;
      its.enqueue(new Uint8Array(length));
    },
  });
  return {
    body,
    finish() {
      controller?.close();
    },
    fail: () => controller?.error(new Error('gone')),
  };
}

const soon = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 30));

describe('bodies', () => {
  test('are counted together, from the head on, until they have been read', async () => {
    const small = handler({ maxBodyBytes: 1000, maxTotalBodyBytes: 1500 });
    const held = halfBody(10);
    const first = post(small, '/classify', held.body, { 'content-length': '1000' });
    await soon();
    expect(await metric(small, 'vggnet_body_bytes')).toBe(1000);
    const refused = await post(small, '/classify', new Uint8Array(501), { 'content-length': '501' });
    expect(refused).toMatchObject({ status: 503, json: { code: 'OVERLOADED' } });
    expect(refused.headers.get('retry-after')).toBe('1');
    held.finish();
    expect((await first).status).toBe(400);
    expect(await metric(small, 'vggnet_body_bytes')).toBe(0);
    expect((await post(small, '/classify', new Uint8Array(501), { 'content-length': '501' })).status).toBe(400);
  });

  test('in chunks are counted as they come', async () => {
    const small = handler({ maxBodyBytes: 200_000, maxTotalBodyBytes: 250_000 });
    const held = halfBody(150_000);
    const first = post(small, '/classify', held.body);
    await soon();
    expect(await metric(small, 'vggnet_body_bytes')).toBeGreaterThanOrEqual(150_000);
    const second = halfBody(150_000);
    expect((await post(small, '/classify', second.body)).status).toBe(503);
    held.fail();
    expect((await first).status).toBe(499);
    expect(await metric(small, 'vggnet_body_bytes')).toBe(0);
  });

  test('that come too slowly are 408', async () => {
    const strict = handler({ stallTimeout: 100 });
    expect(await post(strict, '/classify', halfBody(10).body)).toMatchObject({
      status: 408,
      json: { code: 'BODY_TOO_SLOW' },
    });
    const drip = new ReadableStream({
      async pull(controller) {
        await soon();
        controller.enqueue(new Uint8Array(1));
      },
    });
    expect((await post(strict, '/classify', drip)).status).toBe(408);
    expect(await metric(strict, 'vggnet_body_bytes')).toBe(0);
  });

  test('of more requests than may be in progress are not read', async () => {
    const few = handler({ maxRequests: 1 });
    const held = halfBody(10);
    const first = post(few, '/classify', held.body);
    await soon();
    expect(await post(few, '/classify', LETTER_A)).toMatchObject({ status: 503, json: { code: 'OVERLOADED' } });
    expect((await few.fetch(new Request('http://localhost/v2/health/live'))).status).toBe(200);
    held.finish();
    await first;
    expect((await post(few, '/classify', LETTER_A)).status).toBe(200);
  });

  test.each(['gzip', 'x-gzip', 'deflate'])('are inflated by %s', async (coding) => {
    const stream = new Blob([LETTER_A]).stream() as ReadableStream<BufferSource>;
    const body = stream.pipeThrough(new CompressionStream(coding === 'deflate' ? 'deflate' : 'gzip'));
    const answer = await post(handler(), '/classify?topK=1', body, { 'content-encoding': coding });
    expect(answer).toMatchObject({ status: 200, json: { predictions: [{ label: 'A' }] } });
  });

  test('are bounded as what they become', async () => {
    const bomb = gzipSync(new Uint8Array(40 * 2 ** 20));
    expect(bomb.length).toBeLessThan(50_000);
    const headers = { 'content-encoding': 'gzip' };
    const one = handler();
    expect(await post(one, '/classify', bomb, headers)).toMatchObject({ status: 413 });
    expect(await metric(one, 'vggnet_body_bytes')).toBe(0);
    const together = handler({ maxTotalBodyBytes: 16 * 2 ** 20 });
    const held = halfBody(2 ** 20);
    const first = post(together, '/classify', held.body);
    await soon();
    const most = gzipSync(new Uint8Array(16 * 2 ** 20));
    expect((await post(together, '/classify', most, headers)).status).toBe(503);
    held.finish();
    await first;
    expect((await post(one, '/classify', 'no gzip', headers)).status).toBe(400);
    expect((await post(one, '/classify', bomb.subarray(0, 30), headers)).status).toBe(400);
    const other = await post(one, '/classify', LETTER_A, { 'content-encoding': 'br' });
    expect(other).toMatchObject({ status: 415, json: { code: 'UNSUPPORTED_ENCODING' } });
    expect(other.headers.get('accept-encoding')).toBe('gzip, deflate');
  });
});

describe('answers', () => {
  test('have a limit that is checked before the forward', async () => {
    let forwards = 0;
    const watched = new Proxy(model, {
      get: (target, key) => {
        if (key === 'features') forwards++;
        const value = Reflect.get(target, key, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    const layers = ['conv1_1', 'relu1_1'];
    const limited = createHandler(watched, { layers, maxOutputBytes: 150_000 });
    const ask = (names: string[], binary: boolean): Promise<Answer> => {
      const outputs = names.map((name) => ({ name, parameters: { binary_data: binary } }));
      const { body, headers } = tensor([1, 1, 32, 32], outputs);
      return post(limited, INFER, body, headers);
    };
    // 24 channels of 32 × 32 are 98,304 bytes, and up to 589,824 as JSON.
    expect(await ask(['conv1_1'], false)).toMatchObject({ status: 413, json: { code: 'OUTPUT_TOO_LARGE' } });
    expect(await ask(layers, true)).toMatchObject({ status: 413 });
    expect(forwards).toBe(0);
    expect(await ask(['logits'], false)).toMatchObject({ status: 200 });
    expect(forwards).toBe(1);
  });

  test('are of the logits and probabilities, and of layers that the operator named, each once', async () => {
    const open = handler({ layers: ['relu2_1'] });
    const ask = (...names: string[]): Promise<Answer> => {
      const { body, headers } = tensor(
        [1, 1, 32, 32],
        names.map((name) => ({ name })),
      );
      return post(open, INFER, body, headers);
    };
    expect((await ask('logits', 'probabilities', 'relu2_1')).status).toBe(200);
    expect((await ask('fc8', 'prob')).status).toBe(200);
    expect(await ask('conv1_1')).toMatchObject({ status: 400, json: { code: 'OUTPUT_NOT_SERVED' } });
    expect(await ask('fc8', 'logits')).toMatchObject({ status: 400 });
    expect(await ask('fc8,prob')).toMatchObject({ status: 400, json: { code: 'UNKNOWN_LAYER' } });
  });

  test('that are large are made as they are read, and counted until then', async () => {
    const open = handler({ layers: ['conv1_1'], maxTotalOutputBytes: 5_000_000, stallTimeout: 300 });
    const outputs = [{ name: 'logits' }, { name: 'conv1_1', parameters: { binary_data: true } }];
    const { body, headers } = tensor([1, 1, 200, 200], outputs);
    const ask = (): Promise<Response> =>
      open.fetch(new Request(`http://localhost${INFER}`, { method: 'POST', body, headers }));
    const unread = await ask();
    expect(unread.status).toBe(200);
    expect(await metric(open, 'vggnet_output_bytes')).toBe(36 * 4 + 24 * 40_000 * 4);
    expect((await ask()).status).toBe(503);
    // Who does not read loses it.
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(await metric(open, 'vggnet_output_bytes')).toBe(0);
    await expect(unread.arrayBuffer()).rejects.toThrow();
    const whole = await ask();
    const bytes = await whole.arrayBuffer();
    expect(bytes.byteLength).toBe(Number(whole.headers.get('content-length')));
    expect(await metric(open, 'vggnet_output_bytes')).toBe(0);
    const left = await ask();
    await left.body?.cancel();
    expect(await metric(open, 'vggnet_output_bytes')).toBe(0);
  });

  test('as JSON in parts are what JSON.stringify writes', async () => {
    const open = handler({ layers: ['conv1_1'] });
    const { body, headers } = tensor([1, 1, 64, 64], [{ name: 'conv1_1' }]);
    const response = await open.fetch(new Request(`http://localhost${INFER}`, { method: 'POST', body, headers }));
    const text = await response.text();
    const { outputs } = JSON.parse(text);
    expect(outputs[0]).toMatchObject({ name: 'conv1_1', datatype: 'FP32', shape: [1, 24, 64, 64] });
    expect(outputs[0].data).toHaveLength(24 * 64 * 64);
    expect(text).toBe(JSON.stringify(JSON.parse(text)));
  });
});

describe('inputs', () => {
  test.each([
    [[1, 1, 1024, 1024], 413],
    [[1, 1, 1, 300_000], 413],
    [[5000, 1, 1, 1], 413],
    [[1, 2, 32, 32], 400],
    [[1, 1, 8, 8], 400],
    [[2, 1, 512, 512], 200],
  ])('of shape %j are answered by %i', async (shape, status) => {
    const { body, headers } = tensor(shape, [{ name: 'logits' }]);
    expect((await post(handler(), INFER, body, headers)).status).toBe(status);
  });

  test('errors repeat little of a request', async () => {
    const long = 'a'.repeat(60_000);
    for (const input of [{ name: long }, { name: 'input', datatype: long }, { shape: Array(20_000).fill(1) }]) {
      const body = JSON.stringify({ inputs: [{ name: 'input', datatype: 'FP32', ...input }] });
      const { status, json } = await post(handler(), INFER, body);
      expect(status).toBe(400);
      expect(json.error.length).toBeLessThan(300);
    }
    const { json } = await post(handler(), `/classify?topK=${long}`, LETTER_A);
    expect(json.error.length).toBeLessThan(300);
    const { status, json: unknown } = await post(handler(), `/v2/models/${long}/infer`, '{}');
    expect(status).toBe(404);
    expect(unknown.error.length).toBeLessThan(300);
  });
});

describe('forms', () => {
  const form = (...files: BlobPart[]): FormData => {
    const made = new FormData();
    for (const [i, file] of files.entries()) made.append('image', new Blob([file]), `${i}.png`);
    return made;
  };

  test('one bad image does not cost the others', async () => {
    const { status, json } = await post(handler(), '/classify?topK=1', form(LETTER_A, 'no image', '', LETTER_A));
    expect(status).toBe(200);
    const good = { predictions: [{ label: 'A', index: 10, probability: expect.any(Number) }] };
    const bad = (index: number): object => ({ index, code: 'INVALID_IMAGE', error: expect.any(String) });
    expect(json).toEqual({ results: [good, bad(1), bad(2), good] });
  });

  test('all bad ones make it what the first is', async () => {
    const { status, json } = await post(handler(), '/classify', form('x', 'y'));
    expect(status).toBe(400);
    expect(json).toMatchObject({ code: 'INVALID_IMAGE', results: [{ index: 0 }, { index: 1 }] });
  });

  test('of more images than ever fit are 413; of as many as fit they are answered', async () => {
    const few = handler({ maxQueue: 2, maxBatch: 2 });
    expect((await post(few, '/classify', form(...Array(4).fill(LETTER_A)))).status).toBe(200);
    const answer = await post(few, '/classify', form(...Array(5).fill(LETTER_A)));
    expect(answer).toMatchObject({ status: 413, json: { code: 'FORM_TOO_LARGE' } });
    expect(answer.headers.get('retry-after')).toBeNull();
  });

  test('of too many fields, or long heads, are refused', async () => {
    const fields = form(LETTER_A);
    for (let i = 0; i < 20; i++) fields.append(`a${i}`, 'b');
    expect((await post(handler(), '/classify', fields)).status).toBe(413);
    const long = new FormData();
    long.append('image', new Blob([LETTER_A]), 'a'.repeat(10_000));
    expect(await post(handler(), '/classify', long)).toMatchObject({ status: 400, json: { code: 'INVALID_FORM' } });
  });

  test('topK may be a field', async () => {
    const with2 = form(LETTER_A);
    with2.append('topK', '2');
    expect((await post(handler(), '/classify', with2)).json.results[0].predictions).toHaveLength(2);
    const with0 = form(LETTER_A);
    with0.append('topK', '0');
    expect((await post(handler(), '/classify', with0)).status).toBe(400);
  });
});

describe('pictures', () => {
  test.each(['application/x-www-form-urlencoded', 'text/plain', 'application/json', 'image/webp', 'x'])(
    'are known by their first bytes, whatever %s says',
    async (type) => {
      expect((await post(handler(), '/classify', LETTER_A, { 'content-type': type })).status).toBe(200);
    },
  );
});

describe('a model that is loaded on demand', () => {
  test('is not ready until it is there, and no answer about it waits', async () => {
    let give: (model: VGGNet) => void = () => {};
    let loads = 0;
    const lazy = createHandler(() => {
      loads++;
      return new Promise<VGGNet>((resolve) => {
        give = resolve;
      });
    });
    const get = async (path: string): Promise<number> =>
      (await lazy.fetch(new Request(`http://localhost${path}`))).status;
    expect(await get('/v2/health/live')).toBe(200);
    expect(loads).toBe(0);
    for (const path of ['/v2/health/ready', '/v2/models/glyphs', '/v2/models/glyphs/ready']) {
      expect(await get(path)).toBe(503);
    }
    expect(loads).toBe(1);
    const waiting = post(lazy, '/classify', LETTER_A);
    await soon();
    give(model);
    expect((await waiting).status).toBe(200);
    expect(await get('/v2/health/ready')).toBe(200);
    expect(await get('/v2/models/glyphs/ready')).toBe(200);
  });
});
