import { describe, expect, test } from 'vitest';
import { runCrash } from '../support/crash.js';

/** A program takes a few seconds; many times that on a machine with much else to do. */
const PATIENCE_MS = 120_000;

/** Runs a program that prints JSON, and nothing on stderr, and ends by itself. */
async function run<T>(source: string, flags: readonly string[] = []): Promise<T> {
  const { code, stdout, stderr } = await runCrash(source, { flags, timeout: PATIENCE_MS - 5000 });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return JSON.parse(stdout) as T;
}

interface Round {
  readonly during: readonly string[];
  readonly same: boolean;
  readonly running: number;
}

describe('with several threads', () => {
  test.each([
    ['the engine’s worker', 0],
    ['a helper', 1],
  ])('%s killed 20 times at rest: the next forward gives the same bits', { timeout: PATIENCE_MS }, async (_, index) => {
    const { rounds, grown } = await run<{ rounds: Round[]; grown: number }>(
      `
      const model = await VGGNet.create([8, 'M', 64, 64, 'M'], { ...SMALL, threads: 3 });
      const small = Tensor.randn([1, 3, 33, 30]);
      const expected = bits(await model.forward(small));
      const rounds = [];
      let warm = 0;
      for (let i = 0; i < 20; i++) {
        const pool = workers.slice(-3);
        await pool[${index}].terminate();
        await gone(pool[${index}]);
        const after = bits(await model.forward(small));
        for (const worker of pool) await gone(worker);
        rounds.push({ during: [], same: after === expected, running: running() });
        globalThis.gc();
        if (i === 4) warm = process.memoryUsage.rss();
      }
      console.log(JSON.stringify({ rounds, grown: (process.memoryUsage.rss() - warm) / 2 ** 20 }));
    `,
      ['--expose-gc'],
    );
    expect(rounds).toEqual(Array(20).fill({ during: [], same: true, running: 3 }));
    // Three workers with their heaps are 20 MiB and more.
    expect(grown, 'MiB').toBeLessThan(64);
  });

  test.each([
    ['the engine’s worker', 0],
    ['a helper', 2],
  ])('%s killed 20 times in a forward: all that waits rejects', { timeout: PATIENCE_MS }, async (_, index) => {
    const { rounds, grown } = await run<{ rounds: Round[]; grown: number }>(
      `
      const model = await VGGNet.create(SLOW, { ...SMALL, threads: 3 });
      const expected = bits(await model.forward(x));
      const rounds = [];
      let warm = 0;
      for (let i = 0; i < 20; i++) {
        const pool = workers.slice(-3);
        const waiting = [model.forward(x), model.forward(x), model.forward(x), model.stateDict()].map(outcome);
        await sleep(2 + (i % 8));
        pool[${index}].terminate();
        const during = await Promise.all(waiting);
        const after = bits(await model.forward(x));
        for (const worker of pool) await gone(worker);
        rounds.push({ during, same: after === expected, running: running() });
        globalThis.gc();
        if (i === 4) warm = process.memoryUsage.rss();
      }
      console.log(JSON.stringify({ rounds, grown: (process.memoryUsage.rss() - warm) / 2 ** 20 }));
    `,
      ['--expose-gc'],
    );
    const during = Array(4).fill('WORKER_CRASHED');
    expect(rounds).toEqual(Array(20).fill({ during, same: true, running: 3 }));
    expect(grown, 'MiB').toBeLessThan(64);
  });

  // In a helper, the others wait for it in the middle of a layer; in the engine's thread, the helpers do.
  test.each([
    ['the engine’s thread', 'parallel: (_, args, control, threads) => parallel(99, args, control, threads)'],
    ['a helper', 'helper: (control, thread, threads) => helper(control, thread === 2 ? -65536 : thread, threads)'],
  ])('a kernel that traps in %s: a typed error that says why, and the same bits after it', async (_, change) => {
    const seen = await run<Record<string, unknown>>(`
      faults.script = 'change(({ parallel, helper }) => ({ ${change} }))';
      const model = await VGGNet.create(SLOW, { ...SMALL, threads: 3, seed: 2 });
      faults.script = '';
      const sound = await VGGNet.create(SLOW, { ...SMALL, threads: 3, seed: 2 });
      const failed = await model.forward(x).catch(({ code, message }) => ({ code, message }));
      const [a, b] = [await model.forward(x), await sound.forward(x)];
      for (const worker of workers.slice(0, 3)) await gone(worker);
      console.log(JSON.stringify({ ...failed, same: bits(a) === bits(b), running: await settle(6) }));
    `);
    expect(seen).toEqual({
      code: 'WORKER_CRASHED',
      message: expect.stringMatching(/engine failed: (unreachable|memory access out of bounds)/),
      same: true,
      running: 6,
    });
  });

  test('workers that keep crashing, or cannot be started, are an error of each call; then it heals', async () => {
    const seen = await run<Record<string, unknown>>(`
      const model = await VGGNet.create(SLOW, { ...SMALL, threads: 3 });
      const expected = bits(await model.forward(x));
      faults.script = 'throw new Error("at start")';
      await workers[0].terminate();
      const codes = [];
      const started = workers.length;
      for (let i = 0; i < 3; i++) codes.push(await outcome(model.forward(x)));
      codes.push(...await Promise.all([model.forward(x), model.stateDict(), model.forward(x)].map(outcome)));
      const tried = workers.length - started;
      faults.refuse = true;
      codes.push(await outcome(model.forward(x)), await outcome(model.stateDict()));
      faults.refuse = false;
      faults.script = 'if (name !== "first") process.exit(5); else name = "";'.replace(/name/g, 'globalThis.name');
      codes.push(await outcome(model.forward(x)));
      faults.script = '';
      const same = bits(await model.forward(x)) === expected;
      console.log(JSON.stringify({ codes, tried, same, running: await settle(3) }));
    `);
    // One worker for each call that tried, as the engine's comes before the helpers.
    expect(seen).toEqual({ codes: Array(9).fill('WORKER_CRASHED'), tried: 6, same: true, running: 3 });
  });

  test('dispose, and abort, while it heals', async () => {
    const seen = await run<Record<string, unknown>>(`
      const model = await VGGNet.create(SLOW, { ...SMALL, threads: 3 });
      const expected = bits(await model.forward(x));
      await workers[1].terminate();
      const controller = new AbortController();
      const order = [];
      const aborted = outcome(model.forward(x, { signal: controller.signal }));
      const beside = model.forward(x);
      controller.abort();
      await Promise.all([aborted.then(() => order.push('aborted')), beside.then(() => order.push('healed'))]);
      const codes = [await aborted];
      const same = bits(await beside) === expected;
      for (const wait of [0, 1, 5, 10, 40, 80]) {
        const other = await VGGNet.create([8, 'M'], { ...SMALL, threads: 3 });
        await workers.at(-1).terminate();
        const waiting = [outcome(other.forward(x)), outcome(other.stateDict())];
        if (wait) await sleep(wait);
        other.dispose();
        const ended = await Promise.all(waiting);
        // In the longer times it may have healed.
        if (wait > 10) ended.splice(0, 2, ...ended.filter((code) => code !== 'ok'));
        codes.push(...ended, await outcome(other.forward(x)));
      }
      const others = [...new Set(codes.slice(1))];
      console.log(JSON.stringify({ first: codes[0], others, order, same, running: await settle(3) }));
    `);
    const order = ['aborted', 'healed'];
    expect(seen).toEqual({ first: 'ABORTED', others: ['DISPOSED'], order, same: true, running: 3 });
  });

  test('a thread that never comes back is ended before the memory is used again', async () => {
    // Shorter limits, though no shorter than a healthy worker needs on a busy machine.
    const patience = `
      const { setTimeout: later } = globalThis;
      globalThis.setTimeout = (run, ms, ...rest) => later(run, ms >= 10_000 ? ms / 10 : ms, ...rest);
    `;
    const seen = await run<Record<string, unknown>>(`
      ${patience}
      faults.script = 'change(() => ({ helper() { for (;;); } }))';
      const model = await VGGNet.create(SLOW, { ...SMALL, threads: 2 });
      const other = await VGGNet.create(SLOW, { ...SMALL, threads: 2 });
      faults.script = '';
      const waiting = outcome(model.forward(x));
      await sleep(30);
      workers[0].terminate();
      const codes = [await waiting, await outcome(model.forward(x))];
      // One that can't be ended, as far as anyone knows.
      workers[3].terminate = () => {};
      workers[2].terminate();
      await gone(workers[2]);
      const last = await other.forward(x).catch(({ code, message }) => ({ code, message }));
      codes.push(await outcome(other.forward(x)));
      console.log(JSON.stringify({ codes, last }));
      process.exit();
    `);
    expect(seen).toEqual({
      codes: ['WORKER_CRASHED', 'ok', 'WORKER_CRASHED'],
      last: { code: 'WORKER_CRASHED', message: expect.stringMatching(/could not be stopped.*load the model again/) },
    });
  });

  test('in train mode a forward that does not end leaves the running statistics as they were', async () => {
    const seen = await run<Record<string, unknown>>(`
      const model = (await VGGNet.create(SLOW, { ...SMALL, threads: 2 })).train();
      const state = async () => [...await model.stateDict()].map(([, tensor]) => bits(tensor)).join();
      const first = await state();
      const controller = new AbortController();
      const calls = [outcome(model.forward(x, { signal: controller.signal }))];
      await sleep(15);
      controller.abort();
      await calls[0];
      const afterAbort = await state() === first;
      calls.push(outcome(model.forward(x)));
      await sleep(15);
      workers[1].terminate();
      const codes = await Promise.all(calls);
      const afterCrash = await state() === first;
      await model.forward(x);
      console.log(JSON.stringify({ codes, afterAbort, afterCrash, changed: await state() !== first }));
    `);
    expect(seen).toEqual({ codes: ['ABORTED', 'WORKER_CRASHED'], afterAbort: true, afterCrash: true, changed: true });
  });
});

describe('with one thread', () => {
  test('the weights end with the worker: every later call says so, and new ones bring a new worker', async () => {
    const seen = await run<Record<string, unknown>>(`
      const model = await VGGNet.create(SLOW, { ...SMALL, threads: 1 });
      const waiting = [model.forward(x), model.forward(x), model.stateDict()].map(outcome);
      setTimeout(() => workers[0].terminate(), 5);
      const codes = await Promise.all(waiting);
      for (const call of [model.forward(x), model.profile(x), model.stateDict()]) codes.push(await outcome(call));
      const { message } = await model.forward(x).catch((error) => error);
      const source = await VGGNet.create(SLOW, { ...SMALL, threads: 1, seed: 5 });
      await model.loadWeights(source.save());
      const same = bits(await model.forward(x)) === bits(await source.forward(x));
      console.log(JSON.stringify({ codes, message, same, running: await settle(2) }));
    `);
    expect(seen).toEqual({
      codes: Array(6).fill('WORKER_CRASHED'),
      message: expect.stringMatching(/Load the model again/),
      same: true,
      running: 2,
    });
  });

  test('a kernel that traps is an error of its own call', async () => {
    const seen = await run<Record<string, unknown>>(`
      faults.script = 'let calls = 0;'
        + 'change(({ parallel }) => ({ parallel: (op, ...rest) => parallel(calls++ === 2 ? 99 : op, ...rest) }))';
      const model = await VGGNet.create(SLOW, { ...SMALL, threads: 1 });
      const failed = await model.forward(x).catch(({ code, message }) => ({ code, message }));
      const first = bits(await model.forward(x));
      const same = first === bits(await model.forward(x));
      console.log(JSON.stringify({ ...failed, same, started: workers.length }));
    `);
    const message = expect.stringMatching(/engine failed: unreachable/);
    expect(seen).toEqual({ code: 'WORKER_CRASHED', message, same: true, started: 1 });
  });
});

test.each([1, 3])('a worker that ends while a model is loaded: an error at once, threads %i', async (threads) => {
  const seen = await run<Record<string, unknown>>(`
    const source = await VGGNet.create([32, 'M'], { ...SMALL, threads: 1 });
    const file = new Uint8Array(await new Response(source.save()).arrayBuffer());
    const times = [];
    const codes = [];
    for (const which of [-1, -${threads}]) {
      // It gives half of the file, and then nothing.
      let given = false, cancelled = false;
      const stalled = new ReadableStream({
        pull(controller) {
          if (given) return new Promise(() => {});
          given = true;
          controller.enqueue(file.subarray(0, file.length / 2));
        },
        cancel() { cancelled = true; },
      });
      const before = workers.length;
      const loading = outcome(VGGNet.load(stalled, { device: 'wasm', threads: ${threads} }));
      while (workers.length < before + ${threads} || !given) await sleep(5);
      await sleep(100);
      const start = performance.now();
      workers.at(which).terminate();
      codes.push(await loading, cancelled);
      times.push(performance.now() - start);
    }
    console.log(JSON.stringify({ codes, quick: times.every((ms) => ms < 1000), running: await settle(1) }));
  `);
  expect(seen).toEqual({ codes: ['WORKER_CRASHED', true, 'WORKER_CRASHED', true], quick: true, running: 1 });
});

test('a process ends after a crash, with and without a call after it', async () => {
  for (const then of ['', 'await model.forward(x);', 'model.dispose();', 'model.forward(x).catch(() => {});']) {
    const { code, stdout, stderr, time } = await runCrash(`
      const model = await VGGNet.create(SLOW, { ...SMALL, threads: 3 });
      const waiting = outcome(model.forward(x));
      setTimeout(() => workers[1].terminate(), 10);
      console.log(await waiting);
      ${then}
    `);
    expect({ then, code, stdout, stderr }).toEqual({ then, code: 0, stdout: 'WORKER_CRASHED\n', stderr: '' });
    expect(time, `milliseconds with '${then}'`).toBeLessThan(5000);
  }
});
