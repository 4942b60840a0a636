import { describe, expect, test } from 'vitest';
import { Batcher, type BatcherOptions, QueueFullError, type RunBatch } from '../../src/serve/batcher.js';
import { Tensor } from '../../src/tensor.js';

const never = new AbortController().signal;

/** An image of 2×2 pixels, all of one value. */
const image = (value: number, count = 1, side = 2): Tensor =>
  new Tensor(new Float32Array(count * side * side).fill(value), [count, 1, side, side]);

/** A model that is told when to go on, and gives each image's first value back. */
function manual(options: Partial<BatcherOptions> = {}) {
  const runs: { images: number; signal: AbortSignal; go: () => void; fail: (error: Error) => void }[] = [];
  const run: RunBatch = (input, outputs, signal) =>
    new Promise((resolve, reject) => {
      const images = input.shape[0] as number;
      const size = input.data.length / images;
      const data = Float32Array.from({ length: images }, (_, i) => input.data[i * size] as number);
      const go = (): void => resolve(outputs.map(() => new Tensor(data, [images, 1])));
      runs.push({ images, signal, go, fail: reject });
      signal.addEventListener('abort', () => reject(new Error('aborted')));
    });
  const batcher = new Batcher(run, { maxBatch: 4, maxDelay: 0, maxQueue: 8, ...options });
  const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));
  return { batcher, runs, settled };
}

const first = (tensors: Tensor[]): number[] => Array.from(tensors[0]?.data ?? []);

describe('batcher', () => {
  test('requests that wait while the model works run together, and each gets its own rows', async () => {
    const { batcher, runs, settled } = manual();
    const results = [1, 2, 3].map((value) => batcher.submit(image(value), ['fc8'], never));
    const two = batcher.submit(image(9, 2), ['fc8'], never);
    await settled();
    expect(runs.map(({ images }) => images)).toEqual([1]);
    runs[0]?.go();
    await settled();
    expect(runs.map(({ images }) => images)).toEqual([1, 4]);
    runs[1]?.go();
    expect((await Promise.all(results)).map(first)).toEqual([[1], [2], [3]]);
    expect(first(await two)).toEqual([9, 9]);
  });

  test('at most maxBatch images; other sizes and outputs run apart', async () => {
    const { batcher, runs, settled } = manual({ maxBatch: 2 });
    const shapes: [Tensor, string][] = [
      [image(1), 'a'],
      [image(2), 'a'],
      [image(3, 1, 4), 'a'],
      [image(4), 'a'],
      [image(5), 'a'],
      [image(6), 'b'],
      [image(7, 3), 'a'],
    ];
    const results = shapes.map(([input, output]) => batcher.submit(input, [output], never));
    for (let i = 0; i < 7; i++) {
      await settled();
      runs[i]?.go();
    }
    expect((await Promise.all(results)).map(first)).toEqual([[1], [2], [3], [4], [5], [6], [7, 7, 7]]);
    // The first, which ran alone; pairs of those that are alike; the large request in two pieces; the larger image last.
    expect(runs.map(({ images }) => images)).toEqual([1, 2, 1, 1, 2, 1, 1]);
  });

  test('a large request is cut into pieces, and a small one waits for one of them at most', async () => {
    const { batcher, runs, settled } = manual({ maxBatch: 4 });
    const values = Float32Array.from({ length: 18 * 4 }, (_, i) => Math.floor(i / 4));
    const large = [0, 1, 2].map(() => batcher.submit(new Tensor(values, [18, 1, 2, 2]), ['a'], never));
    await settled();
    expect(runs.map(({ images }) => images)).toEqual([4]);
    const small = batcher.submit(image(50), ['a'], never);
    runs[0]?.go();
    await settled();
    expect(runs.map(({ images }) => images)).toEqual([4, 1]);
    runs[1]?.go();
    expect(first(await small)).toEqual([50]);
    for (let i = 2; i < 17; i++) {
      await settled();
      runs[i]?.go();
    }
    for (const result of await Promise.all(large))
      expect(first(result)).toEqual(Array.from({ length: 18 }, (_, i) => i));
    expect(batcher.waiting).toBe(0);
  });

  test('large requests take turns, and small ones that keep coming do not starve them', async () => {
    const { batcher, runs, settled } = manual({ maxBatch: 2 });
    const large = batcher.submit(image(9, 6), ['a'], never);
    const others: Promise<Tensor[]>[] = [];
    let done = false;
    void large.then(() => {
      done = true;
    });
    let rounds = 0;
    for (; rounds < 40 && !done; rounds++) {
      others.push(batcher.submit(image(1), ['a'], never));
      await settled();
      runs[rounds]?.go();
      await settled();
    }
    expect(done).toBe(true);
    expect(rounds).toBeLessThan(12);
    for (; batcher.waiting > 0 && rounds < 80; rounds++) {
      runs[rounds]?.go();
      await settled();
    }
    runs[rounds]?.go();
    await Promise.all(others);
  });

  test('images of many pixels are computed in smaller pieces', async () => {
    const { batcher, runs, settled } = manual({ maxBatch: 4, maxPixels: 32 });
    const result = batcher.submit(image(3, 5, 4), ['a'], never);
    for (let i = 0; i < 3; i++) {
      await settled();
      runs[i]?.go();
    }
    expect(first(await result)).toEqual([3, 3, 3, 3, 3]);
    expect(runs.map(({ images }) => images)).toEqual([2, 2, 1]);
  });

  test('an idle model waits maxDelay for company', async () => {
    const { batcher, runs, settled } = manual({ maxDelay: 60 });
    const one = batcher.submit(image(1), ['a'], never);
    await settled();
    expect(runs).toHaveLength(0);
    const two = batcher.submit(image(2), ['a'], never);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(runs.map(({ images }) => images)).toEqual([2]);
    runs[0]?.go();
    expect([first(await one), first(await two)]).toEqual([[1], [2]]);
  });

  test('a full batch does not wait', async () => {
    const { batcher, runs, settled } = manual({ maxDelay: 100_000, maxBatch: 2 });
    const both = [1, 2].map((value) => batcher.submit(image(value), ['a'], never));
    await settled();
    expect(runs.map(({ images }) => images)).toEqual([2]);
    runs[0]?.go();
    await Promise.all(both);
  });

  test('a full queue refuses', async () => {
    const { batcher, runs, settled } = manual({ maxQueue: 2 });
    const results = [1, 2, 3].map((value) => batcher.submit(image(value), ['a'], never));
    await expect(batcher.submit(image(4), ['a'], never)).rejects.toBeInstanceOf(QueueFullError);
    expect(batcher.waiting).toBe(2);
    for (let i = 0; i < 2; i++) {
      await settled();
      runs[i]?.go();
    }
    expect((await Promise.all(results)).map(first)).toEqual([[1], [2], [3]]);
  });

  test('who gives up leaves the queue; a forward is aborted when all of its requests gave up', async () => {
    const { batcher, runs, settled } = manual();
    const [a, b, c] = [new AbortController(), new AbortController(), new AbortController()];
    const blocking = batcher.submit(image(0), ['a'], a.signal);
    const waiting = [b, c].map(({ signal }, i) => batcher.submit(image(i + 1), ['a'], signal));
    await settled();
    a.abort();
    await expect(blocking).rejects.toMatchObject({ code: 'ABORTED' });
    expect(runs[0]?.signal.aborted).toBe(true);
    await settled();
    expect(runs[1]?.images).toBe(2);
    b.abort();
    await expect(waiting[0]).rejects.toMatchObject({ code: 'ABORTED' });
    expect(runs[1]?.signal.aborted).toBe(false);
    runs[1]?.go();
    expect(first((await waiting[1]) ?? [])).toEqual([2]);

    const busy = batcher.submit(image(5), ['a'], never);
    const gone = new AbortController();
    const queued = batcher.submit(image(6), ['a'], gone.signal);
    gone.abort();
    await expect(queued).rejects.toMatchObject({ code: 'ABORTED' });
    expect(batcher.waiting).toBe(0);
    await settled();
    runs[2]?.go();
    await busy;
    await settled();
    expect(runs).toHaveLength(3);
  });

  test('an error goes to all of its batch, and the next batch runs', async () => {
    const { batcher, runs, settled } = manual();
    const results = [1, 2, 3].map((value) => batcher.submit(image(value), ['a'], never));
    await settled();
    runs[0]?.go();
    await settled();
    runs[1]?.fail(new Error('broken'));
    const after = batcher.submit(image(4), ['a'], never);
    const settledAll = await Promise.allSettled(results);
    expect(settledAll.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected']);
    await settled();
    runs[2]?.go();
    expect(first(await after)).toEqual([4]);
  });
});
