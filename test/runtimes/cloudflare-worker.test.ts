import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Miniflare } from 'miniflare';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { VGGNet } from '../../src/model.js';
import { createProject, type Project, ROOT } from '../support/project.js';
import { bundleWorker, COMPATIBILITY_DATE, modulesOf, type WorkerBundle } from './workerd.js';

/* examples/cloudflare-worker in workerd, with the package as it is packed and installed. */

let project: Project;
let bundle: WorkerBundle;
let letter: Buffer<ArrayBuffer>;
const workers: Miniflare[] = [];

beforeAll(async () => {
  project = await createProject([]);
  bundle = await bundleWorker(join(ROOT, 'examples/cloudflare-worker/src/worker.js'), project.folder);
  letter = await readFile(join(ROOT, 'examples/images/glyph-W.png'));
}, 60_000);
afterAll(async () => {
  for (const worker of workers) await worker.dispose();
  await project.remove();
});

function start(bindings: Record<string, string> = {}, r2Buckets: string[] = []): Miniflare {
  const worker = new Miniflare({
    modules: modulesOf(bundle),
    modulesRoot: '/',
    compatibilityDate: COMPATIBILITY_DATE,
    compatibilityFlags: ['enable_request_signal'],
    bindings,
    r2Buckets,
  });
  workers.push(worker);
  return worker;
}

interface Bucket {
  put(key: string, value: ArrayBuffer): Promise<unknown>;
}

async function classify(worker: Miniflare, init: { signal?: AbortSignal; headers?: Record<string, string> } = {}) {
  const url = new URL('/classify', await worker.ready);
  const response = await fetch(url, { method: 'POST', body: letter, ...init });
  return {
    status: response.status,
    json: (await response.json()) as { predictions: { label: string }[]; code?: string },
  };
}

describe('the example of an edge worker', () => {
  test('reads an image with the embedded model', async () => {
    const { status, json } = await classify(start());
    expect({ status, label: json.predictions[0]?.label }).toEqual({ status: 200, label: 'W' });
  });

  test('answers requests at once, also when the client of one has gone', async () => {
    const worker = start();
    await worker.ready;
    const gone = new AbortController();
    const first = classify(worker, { signal: gone.signal }).catch(() => undefined);
    setTimeout(() => gone.abort(), 5);
    const answers = await Promise.all(Array.from({ length: 8 }, () => classify(worker)));
    await first;
    expect(answers.map(({ status }) => status)).toEqual(new Array(8).fill(200));
    expect((await classify(worker)).status).toBe(200);
  });

  test('streams weights from a bucket, and asks for a token', async () => {
    const worker = start({ WEIGHTS_KEY: 'own.safetensors', TOKEN: 'secret' }, ['WEIGHTS']);
    const headers = { authorization: 'Bearer secret' };
    expect((await classify(worker)).status).toBe(401);
    expect(await classify(worker, { headers })).toMatchObject({ status: 503, json: { code: 'NOT_LOADED' } });
    const own = await VGGNet.create([8, 'M', 8, 'M'], {
      inChannels: 1,
      numClasses: 2,
      hiddenFeatures: 8,
      poolSize: 1,
      labels: ['this', 'that'],
      device: 'reference',
    });
    const bucket = (await worker.getR2Bucket('WEIGHTS')) as unknown as Bucket;
    await bucket.put('own.safetensors', await new Response(own.save()).arrayBuffer());
    const { status, json } = await classify(worker, { headers });
    expect(status).toBe(200);
    const expected = await own.classify(letter);
    expect(json.predictions.map(({ label }) => label)).toEqual(expected.map(({ label }) => label));
  });
});
