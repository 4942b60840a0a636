import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type Context, main } from '../../bench/src/cli.js';
import { Unavailable } from '../../bench/src/job.js';
import { RowFile, readRows } from '../../bench/src/record.js';
import type { Runtime } from '../../bench/src/session.js';
import { row } from './rows.js';

/* The command with runtimes that measure nothing: what it writes, and what its exit code says. */

let folder: string;
let printed: string[];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vggnet-bench-'));
  printed = [];
  for (const method of ['log', 'error'] as const) {
    vi.spyOn(console, method).mockImplementation((line: string) => void printed.push(line));
  }
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true });
});

/** @param onSample called with the row's runtime and the number of samples so far; its result is the time */
function context(onSample: (runtime: string, count: number) => number = () => 5, missing: string[] = []): Context {
  let count = 0;
  const runtime = (name: string): Runtime => ({
    name,
    async find() {
      if (missing.includes(name)) throw new Unavailable(`not installed: ${name}`);
      return { name, version: '24.1.0' };
    },
    async open() {
      await this.find();
      return {
        opened: { system: { version: '9', build: 'b', threads: 1 }, loadMs: 10, firstMs: 20 },
        sample: async () => onSample(name, ++count),
        logits: async () => Float32Array.of(1),
        profile: () => Promise.reject(new Unavailable('no profile')),
        kernel: () => Promise.reject(new Unavailable('no kernels')),
        peakMemory: async () => 1000,
        close: async () => undefined,
      };
    },
  });
  const names = ['node', 'node24', 'node26', 'deno', 'bun', 'chromium', 'firefox'];
  return {
    benchFolder: folder,
    runtimes: new Map(names.map((name) => [name, runtime(name)])),
    files: {
      prepare: async () => undefined,
      of: () => ({ library: '', safetensors: '', onnx: '', pth: '', kernels: '', limits: '' }),
      bytes: () => 500,
      reference: () => ({ name: 'one', images: [{ indices: [0], values: [1] }] }),
      release: () => undefined,
    },
    otherLoad: async () => 0,
  };
}

const results = (): string => join(folder, 'elsewhere');
const run = (using: Context, ...args: string[]): Promise<number> =>
  main([...args, '--samples', '2', '--results', results(), '--no-report'], using);
const ids = (file = 'full.jsonl'): string[] => readRows(join(results(), file)).map(({ id }) => id);

describe('the exit code', () => {
  test('is 0 if every row that was asked for by name ran', async () => {
    expect(await run(context(), '--rows', 'runtimes/node/t1', 'runtimes/deno/t1')).toBe(0);
    expect(ids()).toEqual(['runtimes/node/t1', 'runtimes/deno/t1']);
  });

  test('is 1 if one of them did not', async () => {
    expect(await run(context(undefined, ['deno']), '--rows', 'runtimes/node/t1', 'runtimes/deno/t1')).toBe(1);
    expect(printed).toContain('Not measured: runtimes/deno/t1: not installed: deno');
    expect(readRows(join(results(), 'full.jsonl'))[1]).toMatchObject({ skipped: 'not installed: deno', samples: [] });
  });

  test('is 0 if rows did not run that were not asked for by name', async () => {
    expect(await run(context(undefined, ['deno']), '--only', 'runtimes')).toBe(0);
    expect(ids()).toContain('runtimes/deno/t1');
  });

  test('is 1 if an answer of the library is wrong', async () => {
    const lies = context();
    const files = { ...lies.files, reference: () => ({ name: 'two', images: [{ indices: [0], values: [2] }] }) };
    expect(await run({ ...lies, files }, '--only', 'backends')).toBe(1);
    expect(printed.join('\n')).toContain('Wrong answer: backends/wasm-simd/t1 is off by 1');
  });

  test('is 2 for what can’t be measured at all', async () => {
    vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    expect(await run(context(), '--rows', 'peers/caffe')).toBe(2);
    expect(await run(context(), '--quick', '--only', 'layers')).toBe(2);
    expect(await main(['--samples', '0'], context())).toBe(2);
    expect(await run(context(), '--check')).toBe(2);
    expect(ids()).toEqual([]);
  });
});

describe('a run', () => {
  test('that is interrupted keeps its rows, and those of earlier runs', async () => {
    expect(await run(context(), '--rows', 'backends/wasm-simd/t1')).toBe(0);
    const controller = new AbortController();
    // Two rows and two rounds of warm-up: the first row is at its second sample, the other has had one.
    const onSample = (_: string, count: number): number => {
      if (count === 7) controller.abort();
      return count;
    };
    const using = { ...context(onSample), signal: controller.signal };
    expect(await run(using, '--rows', 'runtimes/node/t1', 'runtimes/bun/t1', 'scaling')).toBe(130);
    const rows = readRows(join(results(), 'full.jsonl'));
    expect(rows.map(({ id, samples, interrupted }) => [id, samples, interrupted])).toEqual([
      ['backends/wasm-simd/t1', [5, 5], undefined],
      ['runtimes/node/t1', [5, 7], true],
      ['runtimes/bun/t1', [6], true],
    ]);
    expect(printed.at(-1)).toMatch(/^Interrupted: 2 rows are kept in /);
  });

  test('of everything forgets rows that the suite no longer has', async () => {
    new RowFile(join(results(), 'quick.jsonl')).add(row('peers/caffe/t1', [1]));
    expect(await run(context(), '--quick', '--only', 'runtimes')).toBe(0);
    expect(ids('quick.jsonl')).toContain('peers/caffe/t1');
    expect(await run(context(), '--quick')).toBe(0);
    expect(ids('quick.jsonl')).not.toContain('peers/caffe/t1');
    expect(ids('quick.jsonl')).toContain(`runtimes/node/t${availableParallelism()}`);
  });
});

describe('a check', () => {
  test('compares with the rows that are there, and fails where one became worse', async () => {
    const steady = (): Context => context((name) => (name === 'bun' ? 10 : 5));
    expect(await run(steady(), '--quick', '--only', 'runtimes')).toBe(0);
    expect(await run(steady(), '--check', '--only', 'runtimes')).toBe(0);
    expect(printed.at(-1)).toContain('0 worse, 0 better');
    expect(
      await run(
        context((name) => (name === 'bun' ? 12 : 5)),
        '--check',
        '--only',
        'runtimes',
      ),
    ).toBe(1);
    expect(printed.at(-1)).toMatch(/WORSE +\+20\.0% +runtimes\/bun/);
    expect(printed.at(-1)).toContain('estimated');
  });
});
