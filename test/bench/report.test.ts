import { describe, expect, test } from 'vitest';
import { digits, formatReport } from '../../bench/src/report/tables.js';
import { peer, row } from './rows.js';

const options = { prefix: '', plots: new Set(['latency']), title: 'Results' };

describe('the report', () => {
  test('has a line for each row, with an anchor of its id', () => {
    const text = formatReport([row('peers/vggnet/t1', [100, 110, 120])], options);
    expect(text).toContain('# Results');
    expect(text).toContain('![Latency of every backend and peer, by threads](latency.svg)');
    const line = text.split('\n').find((one) => one.includes('<a id="peers-vggnet-t1"></a>'));
    expect(line).toContain('**110**');
    expect(line).toContain('100 – 120');
    expect(line).toContain('| 1.50 | 1024 | 1.5e-5 |');
  });

  test('says why a row was not run, and leaves its figures out', () => {
    const skipped = row('peers/tfjs/t1', [], { ...peer, skipped: 'not installed | try npm ci' });
    const line = formatReport([skipped], options)
      .split('\n')
      .find((one) => one.includes('peers-tfjs-t1'));
    expect(line).toContain('*not run: not installed \\| try npm ci*');
    expect(line).not.toContain('NaN');
  });

  test('marks a wrong answer', () => {
    const wrong = row('peers/tfjs/t1', [1], { ...peer, wrong: true, error: 80 });
    expect(formatReport([wrong], options)).toContain('✗ 8.0e+1');
    const infinite = JSON.parse(JSON.stringify({ ...wrong, error: Number.POSITIVE_INFINITY }));
    expect(formatReport([infinite], options)).toContain('✗ ∞');
  });

  test('gives peers as multiples of our fastest build, by rounds', () => {
    const rows = [
      row('peers/slow/t1', [200, 200]),
      row('peers/fast/t1', [100, 50]),
      row('peers/tfjs/t1', [400, 200], peer),
    ];
    const text = formatReport(rows, options);
    expect(text).toContain('- `tfjs/t1` takes 4.00 times as long as `fast/t1` (4.00 to 4.00)');
    expect(text).not.toContain('as `slow/t1`');
  });

  test('leaves out levels without rows, and plots that were not drawn', () => {
    const text = formatReport([row('runtimes/node/t1', [1])], options);
    expect(text).toContain('## Runtimes');
    expect(text).not.toContain('## Peers');
    expect(text).not.toContain('.svg)');
  });

  test('shows layers by row', () => {
    const layers = [{ name: 'conv1_1+relu1_1', macs: 1, bytes: 1, samples: [3, 1, 2] }];
    const text = formatReport([row('layers/vgg16/t1', [5], { layers })], options);
    expect(text).toContain('| conv1_1+relu1_1 | 2.00 |');
    expect(text).toContain('| **all** | **5.00** |');
  });
});

test('figures have three digits, or all before the point', () => {
  expect([0.012345, 1.23456, 12.3456, 123.456, 12345.6].map(digits)).toEqual([
    '0.0123',
    '1.23',
    '12.3',
    '123',
    '12,346',
  ]);
});
