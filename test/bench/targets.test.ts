import { describe, expect, test } from 'vitest';
import { formatReport } from '../../bench/src/report/tables.js';
import { judge, type Target } from '../../bench/src/targets.js';
import { peer, row } from './rows.js';

const target: Target = { what: 'one thread', row: 'peers/us/t1', over: ['peers/them/t1'], of: 'time', must: 0.5 };
const us = row('peers/us/t1', [40, 44, 42]);
const them = row('peers/them/t1', [100, 100, 100], peer);

describe('a target', () => {
  test('is judged by the rounds of its rows', () => {
    expect(judge([us, them], [target])).toMatchObject([
      { target, ratio: { median: 0.42, low: 0.4, high: 0.44, rounds: 3, id: 'peers/us/t1', against: 'peers/them/t1' } },
    ]);
  });

  test('is over the faster of several peers', () => {
    const faster = row('peers/faster/t1', [50, 50, 50], peer);
    const over = ['peers/them/t1', 'peers/faster/t1'];
    expect(judge([us, them, faster], [{ ...target, over }])[0]?.against?.id).toBe('peers/faster/t1');
    expect(judge([us, them, { ...faster, wrong: true }], [{ ...target, over }])[0]?.against?.id).toBe('peers/them/t1');
  });

  test('compares times for an image, or for a multiply-accumulate, where the work differs', () => {
    const batch = row('peers/us/t1', [320, 320, 320], { batch: 8, macs: 8e9 });
    const one = row('peers/them/t1', [50, 50, 50], { macs: 1e9 });
    for (const per of ['image', 'MAC'] as const) {
      expect(judge([batch, one], [{ ...target, per }])[0]?.ratio.median).toBeCloseTo(0.8, 10);
    }
  });

  test('can be of memory', () => {
    const [a, b] = [
      { ...us, peaks: [300, 320, 310] },
      { ...them, peaks: [1000, 1000, 1000] },
    ];
    expect(judge([a, b], [{ ...target, of: 'memory' }])[0]?.ratio.median).toBeCloseTo(0.31, 10);
    expect(judge([us, them], [{ ...target, of: 'memory' }])).toEqual([]);
  });

  test('can be of a row alone: what its process grew by, or how fast it reads', () => {
    const alone = (of: Target['of']): Target => ({ ...target, over: [], of });
    const loaded = { ...us, peaks: [850e6, 900e6, 860e6], baseMemory: 50e6, fileBytes: 500e6 };
    expect(judge([loaded], [alone('growth')])).toMatchObject([
      { ratio: { median: 1.62, low: 1.6, high: 1.7, rounds: 3 } },
    ]);
    expect(judge([loaded], [alone('edge')])[0]?.ratio.median).toBeCloseTo(810 / 128, 10);
    // 42 ms for 500 MB.
    expect(judge([loaded], [alone('reading')])[0]?.ratio.median).toBeCloseTo(0.084, 10);
    expect(judge([us, { ...loaded, wrong: true }], [alone('growth'), alone('edge'), alone('reading')])).toEqual([]);
  });

  test('is not judged without its rows, on another build, or from two runs', () => {
    expect(judge([us], [target])).toEqual([]);
    const quick = [us, them].map((one) => ({ ...one, network: 'vgg16-h256' }));
    expect(judge(quick, [target])).toEqual([]);
    expect(judge([us, { ...them, skipped: 'not installed' }], [target])).toEqual([]);
    expect(judge([us, them], [{ ...target, build: 'relaxed-simd' }])).toEqual([]);
    expect(
      judge(
        [
          { ...us, run: 'a' },
          { ...them, run: 'b' },
        ],
        [target],
      ),
    ).toEqual([]);
  });
});

describe('the table of targets', () => {
  const line = (ours: number[]): string | undefined => {
    const rows = [
      row('peers/vggnet-wasm-relaxed-simd/t1', ours),
      row('peers/onnxruntime-web-wasm/t1', [1000, 1000, 1000], peer),
    ];
    const text = formatReport(rows, { prefix: '', plots: new Set(), title: 'Results' });
    return text.split('\n').find((one) => one.startsWith('| one thread, against onnxruntime-web'));
  };

  test('says if a figure is met, with the noise and the rows', () => {
    expect(line([200, 210, 205])).toContain(
      '| **0.205** | 0.200 – 0.210, 3 rounds | ≤ 0.26 | met | ≤ 0.18 | **not met** |',
    );
    expect(line([200, 210, 205])).toContain(
      '[peers/vggnet-wasm-relaxed-simd/t1](#peers-vggnet-wasm-relaxed-simd-t1) / [peers/onnxruntime-web-wasm/t1]',
    );
  });

  test('says if the figure lies within the noise', () => {
    expect(line([250, 270, 255])).toContain('| hardly met |');
    expect(line([250, 270, 265])).toContain('| hardly **not met** |');
  });
});
