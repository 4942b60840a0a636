import { describe, expect, test } from 'vitest';
import { type Job, Unavailable } from '../../bench/src/job.js';
import type { Group, RowPlan } from '../../bench/src/plan.js';
import type { Row } from '../../bench/src/record.js';
import type { Runtime, Session } from '../../bench/src/session.js';
import { Suite, type SuiteFiles } from '../../bench/src/suite.js';

/* The suite with a runtime that measures nothing: what it does with systems that fail, lie or are interrupted. */

interface Script {
  /** By the job's model, which tells the rows apart here: what happens at its n-th sample. */
  readonly [model: string]: (sample: number) => Promise<number> | number;
}

function group(...models: string[]): Group {
  const rows = models.map(
    (model): RowPlan => ({
      id: `peers/${model}`,
      level: 'peers',
      kind: 'forward',
      runtime: 'fake',
      flags: [],
      job: { system: 'vggnet', backend: 'wasm', threads: 1, model, batch: 1, size: 32 },
      warmup: 1,
      samples: 3,
      macs: 1e6,
      bytes: 100,
      input: [1, 3, 32, 32],
    }),
  );
  return { id: 'peers/t1', rows };
}

async function run(
  groups: Group[],
  script: Script,
  options: { files?: Partial<SuiteFiles>; signal?: AbortSignal; waiting?: number } = {},
): Promise<{ rows: Row[]; calls: string[] }> {
  const calls: string[] = [];
  const rows: Row[] = [];
  const runtime: Runtime = {
    name: 'fake',
    find: async () => ({ name: 'fake', version: '1.2.3' }),
    async open({ model, batch }: Job): Promise<Session> {
      calls.push(`open ${model}`);
      if (model === 'missing') throw new Unavailable('not installed');
      let samples = 0;
      let memory = 1000 * batch;
      const session = (logits: number): Session => ({
        opened: { system: { version: '9', build: 'b', threads: 1 }, loadMs: 10, firstMs: 20 },
        async sample() {
          calls.push(model);
          return (script[model] ?? (() => 5))(samples++);
        },
        logits: async () => new Float32Array(logits).fill(model === 'liar' ? 2 : 1),
        profile: () => Promise.reject(new Unavailable('no profile')),
        kernel: () => Promise.reject(new Unavailable('no kernels')),
        peakMemory: async () => memory,
        close: async () => void calls.push(`close ${model}`),
        withBatch: async (more) => {
          calls.push(`${model} with ${more}`);
          if (more === 99) throw new Error('too much');
          memory = 1000 * more;
          return session(more);
        },
      });
      return session(batch);
    },
  };
  const suite = new Suite({
    runtimes: new Map([['fake', runtime]]),
    files: {
      prepare: async () => undefined,
      of: () => ({ library: '', safetensors: '', onnx: '', pth: '', kernels: '', limits: '' }),
      bytes: () => 500,
      reference: () => ({ name: 'one', images: [{ indices: [0], values: [1] }] }),
      release: () => undefined,
      ...options.files,
    },
    commit: 'c',
    machine: { cpu: 'x', cores: 1, memoryGiB: 1, os: 'o' },
    otherLoad: async () => 0.25,
    signal: options.signal ?? new AbortController().signal,
    onRow: (row) => rows.push(row),
    log: () => undefined,
    waiting: options.waiting ?? 8,
  });
  await suite.run(groups);
  return { rows, calls };
}

describe('a group', () => {
  test('is loaded one by one, then sampled in turn, and closed', async () => {
    const { calls } = await run([group('a', 'b')], {});
    expect(calls).toEqual([
      ...['open a', 'open b'],
      ...['a', 'b', 'a', 'b', 'a', 'b', 'a', 'b'],
      ...['close a', 'close b'],
    ]);
  });

  test('keeps the samples after the warm-up, with all that a row says', async () => {
    const { rows } = await run([group('a')], { a: (sample) => 10 + sample });
    expect(rows).toHaveLength(1);
    expect(rows[0]).toMatchObject({
      id: 'peers/a',
      group: 'peers/t1',
      samples: [11, 12, 13],
      median: 12,
      runtime: { name: 'fake', version: '1.2.3' },
      system: { name: 'vggnet', version: '9' },
      loadMs: 10,
      firstMs: 20,
      peakMemory: 1000,
      error: 0,
      wrong: false,
      reference: 'one',
      warmup: 1,
      otherLoad: 0.25,
    });
    expect(rows[0]?.skipped).toBeUndefined();
  });

  test('goes on without a system that is missing or dies, and says why', async () => {
    const dies = (sample: number): number => {
      if (sample === 2) throw new Error('the fake process was ended by SIGKILL');
      return 1;
    };
    const { rows, calls } = await run([group('missing', 'dies', 'a')], { dies });
    expect(rows.map(({ id, skipped, samples }) => [id, skipped, samples.length])).toEqual([
      ['peers/missing', 'not installed', 0],
      ['peers/dies', 'the fake process was ended by SIGKILL', 0],
      ['peers/a', undefined, 3],
    ]);
    expect(calls.filter((call) => call === 'dies')).toHaveLength(3);
    expect(calls).toContain('close dies');
  });

  test('marks an answer that is wrong', async () => {
    const { rows } = await run([group('liar')], {});
    expect(rows[0]).toMatchObject({ error: 1, wrong: true });
  });

  test('whose files can’t be made is skipped, and the next one runs', async () => {
    let first = true;
    const prepare = async (): Promise<void> => {
      if (!first) return;
      first = false;
      throw new Error('no space left on device');
    };
    const { rows } = await run([group('a'), group('b')], {}, { files: { prepare } });
    expect(rows.map(({ id, skipped }) => [id, skipped])).toEqual([
      ['peers/a', 'no space left on device'],
      ['peers/b', undefined],
    ]);
  });

  test('with a runtime that the suite does not have says so', async () => {
    const [plan] = group('a').rows as [RowPlan];
    const { rows } = await run([{ id: 'g', rows: [{ ...plan, runtime: 'chromium' }] }], {});
    expect(rows[0]?.skipped).toBe("the suite has no runtime 'chromium'");
  });
});

describe('a process', () => {
  const withBatch = (id: string, ...batches: number[]): Group => {
    const [plan] = group('a').rows as [RowPlan];
    return { id, rows: batches.map((batch) => ({ ...plan, id: `${id}/b${batch}`, job: { ...plan.job, batch } })) };
  };
  const opens = (calls: string[]): string[] => calls.filter((call) => /open|close|with/.test(call));

  test('serves later rows that want the same system, and ends after the last', async () => {
    const { rows, calls } = await run([group('a', 'b'), group('c', 'a'), group('d')], {});
    expect(opens(calls)).toEqual(['open a', 'open b', 'close b', 'open c', 'close a', 'close c', 'open d', 'close d']);
    expect(rows.map(({ samples }) => samples.length)).toEqual([3, 3, 3, 3, 3]);
  });

  test('serves larger batches after smaller ones, each with its own memory', async () => {
    const { rows, calls } = await run([withBatch('x', 1, 8), withBatch('y', 8)], {});
    expect(opens(calls)).toEqual(['open a', 'a with 8', 'close a', 'close a']);
    expect(rows.map(({ id, peakMemory }) => [id, peakMemory])).toEqual([
      ['x/b1', 1000],
      ['x/b8', 8000],
      ['y/b8', 8000],
    ]);
  });

  test('that has run a larger batch is no measure of a smaller one’s memory', async () => {
    const { calls } = await run([withBatch('x', 8), withBatch('y', 1)], {});
    expect(opens(calls)).toEqual(['open a', 'close a', 'open a', 'close a']);
  });

  test('that fails with a larger batch serves no more', async () => {
    const { rows, calls } = await run([withBatch('x', 1), withBatch('y', 99), withBatch('z', 99)], {});
    expect(opens(calls)).toEqual(['open a', 'a with 99', 'close a', 'open a', 'close a']);
    expect(rows.map(({ skipped }) => skipped)).toEqual([undefined, 'too much', undefined]);
  });

  test('that has died serves no more', async () => {
    let died = false;
    const a = (): number => {
      if (died) return 1;
      died = true;
      throw new Error('ended by SIGKILL');
    };
    const { rows, calls } = await run([group('a'), group('a')], { a });
    expect(opens(calls)).toEqual(['open a', 'close a', 'open a', 'close a']);
    expect(rows.map(({ skipped }) => skipped)).toEqual(['ended by SIGKILL', undefined]);
  });

  test('ends early where too many would wait, the one that is wanted last first', async () => {
    const { calls } = await run([group('a', 'b', 'c'), group('b'), group('c'), group('a')], {}, { waiting: 2 });
    expect(opens(calls)).toEqual([
      ...['open a', 'open b', 'open c', 'close a'],
      ...['close b', 'close c', 'open a', 'close a'],
    ]);
  });
});

describe('an interrupt', () => {
  test('keeps what was measured until then, marked, and starts nothing more', async () => {
    const controller = new AbortController();
    const b = (sample: number): number => {
      if (sample < 2) return 7;
      controller.abort();
      throw new Error('interrupted');
    };
    const { rows, calls } = await run([group('a', 'b', 'c'), group('d')], { b }, { signal: controller.signal });
    // The warm-up, then a has two samples, b and c one each.
    expect(rows.map(({ id, samples, interrupted, skipped }) => [id, samples, interrupted, skipped])).toEqual([
      ['peers/a', [5, 5], true, undefined],
      ['peers/b', [7], true, undefined],
      ['peers/c', [5], true, undefined],
    ]);
    expect(calls).toEqual(expect.arrayContaining(['close a', 'close b', 'close c']));
    expect(calls).not.toContain('open d');
  });
});

test('weights are let go once no later group reads them', async () => {
  const released: string[] = [];
  const release = (model: string): void => void released.push(model);
  await run([group('a'), group('b'), group('a')], {}, { files: { release } });
  expect(released).toEqual(['b', 'a']);
});
