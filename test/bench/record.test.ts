import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { gflopsOf, measured, RowFile, readRows, summarise } from '../../bench/src/record.js';
import { row } from './rows.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vggnet-bench-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe('a row’s figures', () => {
  test('keep every sample in order, to five digits', () => {
    const { samples, median, min, p90 } = summarise([30.123456, 10, 20], 0);
    expect(samples).toEqual([30.123, 10, 20]);
    expect({ median, min, p90 }).toEqual({ median: 20, min: 10, p90: 30.123 });
  });

  test('count two operations for a multiply-accumulate', () => {
    // 1e9 in 1 s are 2 GFLOP/s.
    expect(gflopsOf(1e9, 1000)).toBe(2);
  });

  test('without samples are no measurement', () => {
    expect(measured(row('peers/a', [1, 2]))).toBe(true);
    expect(measured(row('peers/a', [], { skipped: 'not installed' }))).toBe(false);
    expect(measured(row('peers/a', [1], { skipped: 'died' }))).toBe(false);
  });
});

describe('the file of rows', () => {
  test('has a row on the disk as soon as it is added', () => {
    const file = new RowFile(join(folder, 'new/rows.jsonl'));
    file.add(row('peers/a', [1, 2, 3]));
    expect(readRows(file.path)).toEqual([row('peers/a', [1, 2, 3])]);
  });

  test('keeps the last row of an id, and drops the older ones when closed', () => {
    const file = new RowFile(join(folder, 'rows.jsonl'));
    for (const [id, ms] of [
      ['peers/a', 1],
      ['peers/b', 2],
      ['peers/a', 3],
    ] as const)
      file.add(row(id, [ms]));
    const expected = [row('peers/a', [3]), row('peers/b', [2])];
    expect(readRows(file.path)).toEqual(expected);
    expect(readFileSync(file.path, 'utf8').trim().split('\n')).toHaveLength(3);
    file.close();
    expect(readRows(file.path)).toEqual(expected);
    expect(readFileSync(file.path, 'utf8').trim().split('\n')).toHaveLength(2);
  });

  test('is read without the half line of a run that was killed', () => {
    const file = new RowFile(join(folder, 'rows.jsonl'));
    file.add(row('peers/a', [1]));
    appendFileSync(file.path, JSON.stringify(row('peers/b', [2])).slice(0, 40));
    expect(readRows(file.path).map(({ id }) => id)).toEqual(['peers/a']);
  });

  test('that is not there has no rows', () => {
    expect(readRows(join(folder, 'none.jsonl'))).toEqual([]);
  });
});
