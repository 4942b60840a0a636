import { describe, expect, test } from 'vitest';
import { compareRows, formatVerdicts, restartNoise, suspects } from '../../bench/src/check.js';
import { ratiosOf } from '../../bench/src/ratios.js';
import type { Row } from '../../bench/src/record.js';
import { peer, row } from './rows.js';

/** Ours at `ours` times the peer's speed, with the machine slower and faster from round to round. */
function pair(ours: number, machine = [100, 130, 90, 105, 160, 95, 110]): Row[] {
  // Noise of a per cent that is each one's own.
  const jitter = (i: number): number => 1 + 0.01 * Math.sin(7 * i);
  return [
    row(
      'peers/vggnet/t1',
      machine.map((ms, i) => ms * ours * jitter(i)),
    ),
    row(
      'peers/tfjs/t1',
      machine.map((ms, i) => ms * jitter(i + 3)),
      peer,
    ),
  ];
}

describe('ratios of rows', () => {
  test('ours over each peer of the group, paired by round', () => {
    const ratios = ratiosOf(pair(0.25));
    expect(ratios).toHaveLength(1);
    expect(ratios[0]).toMatchObject({ id: 'peers/vggnet/t1', against: 'peers/tfjs/t1', rounds: 7 });
    expect(ratios[0]?.median).toBeGreaterThan(0.245);
    expect(ratios[0]?.median).toBeLessThan(0.255);
    // The machine's own changes, of 70%, are not in it.
    expect((ratios[0]?.high ?? 0) / (ratios[0]?.low ?? 1)).toBeLessThan(1.05);
  });

  test('without peers, each row over the first', () => {
    const rows = ['node', 'deno', 'bun'].map((name, i) => row(`runtimes/${name}`, [10 * (i + 1)]));
    expect(ratiosOf(rows).map(({ id, median }) => [id, median])).toEqual([
      ['runtimes/deno', 2],
      ['runtimes/bun', 3],
    ]);
  });

  test('kernels over as much work of the micro-kernel', () => {
    const kernel = row('kernels/simd/conv2d/conv1_1', [10, 10, 10], { macs: 2e6, peakSamples: [4, 4], peakMacs: 1e6 });
    expect(ratiosOf([kernel])).toMatchObject([{ against: 'the micro-kernel', median: 1.25 }]);
  });

  test('kernels that memory limits over a read of as many bytes', () => {
    const limit = { peakSamples: [20, 20], peakBytes: 200 };
    const kernel = row('kernels/simd/linear/fc8-b1', [10, 10, 10], { macs: 10, bytes: 50, ...limit });
    expect(ratiosOf([kernel])).toMatchObject([{ against: 'reading memory', median: 2 }]);
  });

  test('rows of processes have ratios of memory too', () => {
    const [ours, theirs] = pair(0.25) as [Row, Row];
    const loads = [
      { ...ours, peaks: [300, 310, 290] },
      { ...theirs, peaks: [1000, 1000, 1000] },
    ];
    expect(ratiosOf(loads).map(({ of, rounds }) => [of, rounds])).toEqual([
      ['time', 7],
      ['memory', 3],
    ]);
    expect(ratiosOf(loads)[1]).toMatchObject({ median: 0.3, low: 0.29, high: 0.31 });
  });

  test('rows of different runs are no pair', () => {
    const [ours, theirs] = pair(0.25) as [Row, Row];
    expect(
      ratiosOf([
        { ...ours, run: 'morning' },
        { ...theirs, run: 'evening' },
      ]),
    ).toEqual([]);
    expect(
      ratiosOf([
        { ...ours, run: 'morning' },
        { ...theirs, run: 'morning' },
      ]),
    ).toHaveLength(1);
  });

  test('rows that were skipped, wrong or cut short have none', () => {
    for (const changes of [{ skipped: 'no GPU' }, { wrong: true }, { interrupted: true }]) {
      const [ours, theirs] = pair(0.25) as [Row, Row];
      expect(ratiosOf([{ ...ours, ...changes }, theirs])).toEqual([]);
    }
  });
});

describe('a check', () => {
  test('passes on a machine that is three times slower all round', () => {
    const slower = pair(0.25, [400, 300, 330, 290, 310, 420, 300]);
    expect(compareRows(pair(0.25), slower).map(({ change }) => change)).toEqual(['same']);
  });

  test('fails where we became a tenth slower than the peer', () => {
    const verdicts = compareRows(pair(0.25), pair(0.275));
    expect(verdicts.map(({ change }) => change)).toEqual(['worse']);
    expect(suspects(verdicts)).toEqual(['peers/t1']);
    expect(formatVerdicts(verdicts, pair(0.25), pair(0.275))).toMatch(/WORSE +\+\d+\.\d% +peers\/vggnet\/t1/);
  });

  test('passes where we became faster', () => {
    expect(compareRows(pair(0.25), pair(0.2)).map(({ change }) => change)).toEqual(['better']);
  });

  test('passes where the difference is within the noise', () => {
    const noisy = pair(0.26).map((one) => ({ ...one, samples: one.samples.map((ms, i) => ms * (i % 2 ? 0.9 : 1.1)) }));
    const [ours, theirs] = noisy as Row[] as [Row, Row];
    const wide = [{ ...ours, samples: [...ours.samples].reverse() }, theirs];
    expect(compareRows(pair(0.25), wide).map(({ change }) => change)).toEqual(['same']);
  });

  test('passes if the second measurement is not worse', () => {
    expect(compareRows(pair(0.25), pair(0.275), pair(0.25)).map(({ change }) => change)).toEqual(['same']);
    expect(compareRows(pair(0.25), pair(0.275), pair(0.275)).map(({ change }) => change)).toEqual(['worse']);
  });

  test('takes what new processes alone change for noise', () => {
    // Both times over the committed ratio, but 8% apart from each other, so 6% over it says nothing, and 60% does.
    const [first, second] = [pair(0.265), pair(0.286)];
    expect(restartNoise(first, second)).toBeCloseTo((0.286 / 0.265) ** (1.96 / 0.6745), 3);
    expect(compareRows(pair(0.25), first, second).map(({ change }) => change)).toEqual(['same']);
    expect(compareRows(pair(0.25), pair(0.4), pair(0.43)).map(({ change }) => change)).toEqual(['worse']);
    expect(compareRows(pair(0.25), first, first).map(({ change }) => change)).toEqual(['worse']);
    expect(restartNoise(first, [])).toBe(1);
  });

  test('says nothing of rows that have come to run another network', () => {
    const other = pair(0.5).map((one) => ({ ...one, network: 'vgg16-h256' }));
    expect(compareRows(pair(0.25), other)).toEqual([]);
  });

  test('says nothing of rows that only one run has', () => {
    const [ours, theirs] = pair(0.25) as [Row, Row];
    expect(compareRows([ours, theirs], [ours])).toEqual([]);
  });

  test('says if other work took cores', () => {
    const busy = pair(0.25).map((one) => ({ ...one, otherLoad: 0.5 }));
    const text = formatVerdicts(compareRows(busy, pair(0.25)), busy, pair(0.25));
    expect(text).toContain('Other work took over 10% of the cores in the committed run: peers/t1');
    expect(text).not.toContain('in this run');
  });

  test('explains how, and names another CPU', () => {
    const elsewhere = pair(0.25).map((one) => ({ ...one, machine: { ...one.machine, cpu: 'Other CPU' } }));
    const text = formatVerdicts(compareRows(pair(0.25), elsewhere), pair(0.25), elsewhere);
    expect(text).toContain('order statistics');
    expect(text).toContain('Committed on Test CPU, this is Other CPU');
    expect(text).toContain('1 ratios compared, 0 worse, 0 better, 1 within the noise');
  });
});
