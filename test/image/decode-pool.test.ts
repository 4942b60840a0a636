import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { deflateSync } from 'node:zlib';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DecodePool } from '../../src/image/decode-pool.js';
import { imageToTensor } from '../../src/image/preprocess.js';
import { IMAGENET_PRESET, type ImagePreset } from '../../src/image/preset.js';
import type { RawImage } from '../../src/image/raw-image.js';
import { ROOT } from '../support/project.js';
import { golden, imageBytes } from './golden.js';
import { png } from './png.js';

type File = Uint8Array<ArrayBuffer>;

const PRESET: ImagePreset = { ...IMAGENET_PRESET, resize: 8, crop: 8 };

/** An 8-bit RGB PNG of a size. */
function picture(width: number, height: number): File {
  return png(width, height, { data: deflateSync(Buffer.alloc((3 * width + 1) * height)), type: 2 });
}

/** A decoder that ends when the test says so. */
function slowDecoder(): { decode: (file: File) => Promise<RawImage>; started: File[]; end: (index: number) => void } {
  const started: File[] = [];
  const ends: ((image: RawImage) => void)[] = [];
  const decode = (file: File): Promise<RawImage> => {
    started.push(file);
    return new Promise((resolve) => ends.push(resolve));
  };
  const end = (index: number): void => ends[index]?.({ data: new Uint8Array(3), width: 1, height: 1, channels: 3 });
  return { decode, started, end };
}

/** Until all that can go on has gone on. */
async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
}

test('every file comes out as from imageToTensor', async () => {
  const pool = new DecodePool();
  const names = Object.keys(golden.files);
  const preset = { ...IMAGENET_PRESET, resize: 20, crop: 16 };
  const tensors = await Promise.all(names.map((name) => pool.imageToTensor(imageBytes(name) as File, preset)));
  for (const [i, name] of names.entries()) {
    const expected = await imageToTensor(imageBytes(name), preset);
    expect(tensors[i]?.shape, name).toEqual(expected.shape);
    expect(tensors[i]?.data, name).toEqual(expected.data);
  }
  expect([pool.active, pool.waiting]).toEqual([0, 0]);
});

test('the bytes of a file are not changed', async () => {
  const gif = imageBytes('palette-transparent.gif') as File;
  const before = new Uint8Array(gif);
  await new DecodePool().imageToTensor(gif, PRESET);
  expect(gif).toEqual(before);
});

describe('the line', () => {
  // A decoder of its own is counted as 8 bytes a pixel; the rest is for tensors.
  const maxBytes = 8 * 100 * 100 + 10_000;

  test('a large file at its head lets no small one pass', async () => {
    const { decode, started, end } = slowDecoder();
    const pool = new DecodePool({ maxBytes, decode });
    const small = picture(50, 50);
    const large = picture(100, 100);
    const files = [small, large, picture(30, 30)];
    const done = Promise.all(files.map((file) => pool.imageToTensor(file, PRESET)));
    expect(pool.waiting).toBe(3);
    await settle();
    expect(started).toEqual([small]);
    expect([pool.active, pool.waiting]).toEqual([1, 2]);
    end(0);
    await settle();
    expect(started).toEqual([small, large]);
    end(1);
    await settle();
    expect(started).toEqual(files);
    end(2);
    await done;
    expect([pool.active, pool.waiting]).toEqual([0, 0]);
  });

  test('who leaves while waiting never starts, and who waited behind goes on', async () => {
    const { decode, started, end } = slowDecoder();
    const pool = new DecodePool({ maxBytes, decode });
    const controller = new AbortController();
    const first = pool.imageToTensor(picture(90, 90), PRESET);
    const left = pool.imageToTensor(picture(100, 100), PRESET, { signal: controller.signal });
    const small = picture(10, 10);
    const last = pool.imageToTensor(small, PRESET);
    await settle();
    expect([pool.active, pool.waiting]).toEqual([1, 2]);
    controller.abort(new Error('gone'));
    await expect(left).rejects.toMatchObject({ code: 'ABORTED', cause: controller.signal.reason });
    await settle();
    expect([pool.active, pool.waiting]).toEqual([2, 0]);
    expect(started[1]).toBe(small);
    end(0);
    end(1);
    await Promise.all([first, last]);
  });

  test('a slot is freed when the decoder ends, not when the caller leaves', async () => {
    const { decode, started, end } = slowDecoder();
    const pool = new DecodePool({ maxBytes, decode });
    const controller = new AbortController();
    const left = pool.imageToTensor(picture(100, 100), PRESET, { signal: controller.signal });
    const next = pool.imageToTensor(picture(100, 100), PRESET);
    await settle();
    controller.abort();
    await expect(left).rejects.toMatchObject({ code: 'ABORTED' });
    await settle();
    expect([pool.active, pool.waiting, started.length]).toEqual([1, 1, 1]);
    end(0);
    await settle();
    expect([pool.active, pool.waiting, started.length]).toEqual([1, 0, 2]);
    end(1);
    await next;
  });

  test('hang-ups at any moment leave nothing behind', async () => {
    const pool = new DecodePool();
    const file = imageBytes('rgb.png') as File;
    const calls = Array.from({ length: 200 }, async (_, i) => {
      const controller = new AbortController();
      const call = pool.imageToTensor(file, PRESET, { signal: controller.signal });
      for (let turn = 0; turn < i % 20; turn++) await (i % 2 ? Promise.resolve() : new Promise(setImmediate));
      controller.abort();
      return call;
    });
    for (const result of await Promise.allSettled(calls)) {
      if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'ABORTED' });
    }
    await pool.imageToTensor(file, PRESET);
    await expect.poll(() => [pool.active, pool.waiting]).toEqual([0, 0]);
  });

  test('a failure frees its slot', async () => {
    const pool = new DecodePool({ decode: () => Promise.reject(new Error('broken')), maxBytes });
    for (let i = 0; i < 3; i++) {
      await expect(pool.imageToTensor(picture(100, 100), PRESET)).rejects.toThrow('broken');
    }
    await expect(pool.imageToTensor(new Uint8Array(9), PRESET)).rejects.toMatchObject({ code: 'INVALID_IMAGE' });
    expect([pool.active, pool.waiting]).toEqual([0, 0]);
  });

  test('no more small pictures at once than keep the threads busy', async () => {
    const { decode, started, end } = slowDecoder();
    const pool = new DecodePool({ decode });
    const calls = Array.from({ length: 21 }, () => pool.imageToTensor(picture(4, 4), PRESET));
    await settle();
    expect([pool.active, pool.waiting]).toEqual([16, 5]);
    for (let i = 0; i < calls.length; i++) {
      end(i);
      await settle();
    }
    await Promise.all(calls);
    expect(started).toHaveLength(21);
  });
});

describe('IMAGE_TOO_LARGE', () => {
  test.each([
    ['pixels', picture(6000, 5000), {}, /at most 25000000 pixels here, got 6000×5000; send it smaller, or raise maxP/],
    ['a decoder', picture(1000, 1000), { maxBytes: 3e6 }, /1000×1000 takes \d+ MiB .* send it smaller, or raise maxB/],
  ])('%s', async (_, file, options, message) => {
    const refusal = new DecodePool(options).imageToTensor(file, PRESET);
    await expect(refusal).rejects.toMatchObject({ code: 'IMAGE_TOO_LARGE', message: expect.stringMatching(message) });
  });

  test('the tensor counts too', async () => {
    const whole = { ...PRESET, resize: null, crop: null };
    const refusal = new DecodePool().imageToTensor(picture(4000, 3000), whole);
    await expect(refusal).rejects.toMatchObject({ code: 'IMAGE_TOO_LARGE' });
  });
});

test.each([{ maxBytes: 0 }, { maxBytes: 1.5 }, { maxPixels: Number.NaN }, { maxPixels: -1 }])('%j', (options) => {
  expect(() => new DecodePool(options)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
});

describe('a process', () => {
  let folder: string;
  let script: string;

  beforeAll(async () => {
    folder = mkdtempSync(join(ROOT, 'node_modules/.decode-pool-'));
    script = join(folder, 'decode-many.mjs');
    const entryPoints = [join(ROOT, 'test/image/decode-many.ts')];
    await build({ entryPoints, bundle: true, format: 'esm', platform: 'node', external: ['sharp'], outfile: script });
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const rgba = png(5000, 5000, { data: deflateSync(Buffer.alloc((4 * 5000 + 1) * 5000)), type: 6 });
  const deep = png(4990, 5000, { data: deflateSync(Buffer.alloc((6 * 4990 + 1) * 5000)), type: 2, bitDepth: 16 });

  test.each([
    ['25 megapixels, RGBA', rgba],
    ['25 megapixels of 16 bits', deep],
  ])('stays small and answers beside 12 pictures of %s', async (_, file) => {
    const path = join(folder, 'picture');
    writeFileSync(path, file);
    const { stdout } = await promisify(execFile)(process.execPath, [script, path, '12']);
    const { peakMiB, longestTurn } = JSON.parse(stdout) as { peakMiB: number; longestTurn: number };
    // Twelve at once would take 900 MiB at least.
    expect(peakMiB).toBeLessThan(400);
    // On the main thread's clock of its own work; 16 bits once took seconds.
    expect(longestTurn).toBeLessThan(100);
  });
});
