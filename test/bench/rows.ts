import type { Row } from '../../bench/src/record.js';
import { summarise } from '../../bench/src/record.js';

/** A measured row, for tests of what is made of rows. */
export function row(id: string, samples: readonly number[], changes: Partial<Row> = {}): Row {
  const [level = 'peers'] = id.split('/');
  return {
    id,
    level: level as Row['level'],
    group: `${level}/t1`,
    date: '2026-01-02T03:04:05.000Z',
    commit: 'abcdef0123',
    machine: { cpu: 'Test CPU', cores: 2, memoryGiB: 8, os: 'linux 1 x64' },
    runtime: { name: 'node24', version: '24.0.0', flags: [] },
    system: { name: 'vggnet', version: 'this commit' },
    backend: 'wasm',
    build: 'simd',
    threads: 1,
    network: 'vgg16',
    batch: 1,
    input: [1, 3, 224, 224],
    warmup: 1,
    ...summarise(samples, 15_470_264_320),
    bytes: 600_000_000,
    loadMs: 1000,
    firstMs: 1500,
    peakMemory: 2 ** 30,
    error: 1.5e-5,
    wrong: false,
    reference: 'PyTorch',
    ...changes,
  };
}

export const peer: Partial<Row> = { system: { name: 'tfjs', version: '4.22.0' }, build: 'wasm simd' };
