import { describe, expect, test } from 'vitest';
import { nodeRuntime, RUNTIMES } from '../../bench/src/groups.js';
import { LEVELS, ON_REQUEST } from '../../bench/src/job.js';
import { networkLayers, QUICK_NETWORK } from '../../bench/src/network.js';
import { makePlan, select, stepBytes } from '../../bench/src/plan.js';
import { TARGETS } from '../../bench/src/targets.js';

const runtime = nodeRuntime('node24', '24.1.0');
const full = makePlan({ quick: false, cores: 2, runtime });
const ids = full.flatMap(({ rows }) => rows.map(({ id }) => id));

describe('the plan', () => {
  test('has every level, and ids that are all different', () => {
    expect(new Set(full.flatMap(({ rows }) => rows.map(({ level }) => level)))).toEqual(new Set(LEVELS));
    expect(new Set(ids).size).toBe(ids.length);
    for (const { id, level } of full.flatMap(({ rows }) => rows)) expect(id.startsWith(`${level}/`), id).toBe(true);
  });

  test('has what the suite promises', () => {
    expect(ids).toEqual(
      expect.arrayContaining([
        'networks/vgg11/b1/t1',
        'networks/vgg19_bn/b8/t2',
        'backends/wasm-relaxed-simd/t2',
        'peers/onnxruntime-web-wasm/t1',
        'peers/onnxruntime-web-wasm/t2',
        'webgpu/chromium/vggnet',
        'webgpu/chromium/onnxruntime-web',
        'webgpu/firefox/tfjs',
        'webgpu-full/chromium/vggnet',
        'peers/tfjs-wasm/t1',
        'peers/chromium/tfjs-wasm/t2',
        'peers/firefox/onnxruntime-web-wasm/t1',
        'peers/deno/onnxruntime-web-wasm/t2',
        'peers/bun/vggnet-wasm/t1',
        'peers/node/onnxruntime-web-wasm/t1',
        'load/onnxruntime-web-wasm',
        'peers/onnxruntime-node-native/t2',
        'scaling/b4/t2',
        'layers/vgg16/wasm-simd/t1',
        'kernels/simd/gemm/conv1_1',
        'kernels/relaxed-simd/conv2d/conv5_1',
        'kernels/simd/maxPool2d/pool5',
        'kernels/simd/linear/fc6-b8',
        ...RUNTIMES.map((name) => `runtimes/${name}/t1`),
      ]),
    );
  });

  test('a quick one is smaller, and has a peer of each kind', () => {
    const quick = makePlan({ quick: true, cores: 2, runtime }).flatMap(({ rows }) => rows.map(({ id }) => id));
    expect(quick.length).toBeLessThan(ids.length / 2);
    expect(quick.filter((id) => id.startsWith('networks/'))).toEqual([
      `networks/${QUICK_NETWORK}/b1/t1`,
      `networks/${QUICK_NETWORK}/b1/t2`,
    ]);
    for (const id of [
      'peers/tfjs-wasm/t1',
      'peers/onnxruntime-web-wasm/t2',
      'peers/chromium/onnxruntime-web-wasm/t2',
      'peers/firefox/vggnet-wasm/t2',
      'runtimes/bun/t2',
    ]) {
      expect(quick).toContain(id);
    }
  });

  test('on one core asks for one thread alone', () => {
    const rows = makePlan({ quick: false, cores: 1, runtime }).flatMap((group) => group.rows);
    expect(rows.every(({ job }) => job.threads === 1)).toBe(true);
    expect(new Set(rows.map(({ id }) => id)).size).toBe(rows.length);
  });

  test('peers of a group have one network, batch, input and number of threads', () => {
    for (const { id, rows } of full.filter((group) => /^(peers|webgpu|webgpu-full|load)/.test(group.id))) {
      const inputs = rows.map(({ job: { model, batch, size, threads } }) => [model, batch, size, threads].join());
      expect(new Set(inputs).size, id).toBe(1);
      expect(new Set(rows.map(({ macs, warmup, samples }) => [macs, warmup, samples].join())).size, id).toBe(1);
    }
  });

  test('counts VGG16’s work as the paper’s architecture gives it', () => {
    const row = full.flatMap(({ rows }) => rows).find(({ id }) => id === 'networks/vgg16/b1/t1');
    expect(row?.macs).toBe(15_470_264_320);
  });

  test('relaxed SIMD has a flag in Node 20 alone', () => {
    const flags = (version: string) =>
      makePlan({ quick: true, cores: 1, runtime: nodeRuntime('node', version) })
        .flatMap(({ rows }) => rows)
        .find(({ id }) => id === 'peers/vggnet-wasm-relaxed-simd/t1')?.flags;
    expect(flags('20.20.2')).toEqual(['--experimental-wasm-relaxed-simd']);
    expect(flags('24.1.0')).toEqual([]);
  });

  test('--samples is in place of every row’s own number', () => {
    const rows = makePlan({ quick: true, cores: 1, runtime, samples: 3 }).flatMap((group) => group.rows);
    expect(rows.every(({ samples }) => samples === 3)).toBe(true);
  });
});

describe('choosing rows', () => {
  test('by level, by id, and by the beginning of ids', () => {
    const chosen = (only: Parameters<typeof select>[1], names: string[]) =>
      select(full, only, names).groups.flatMap(({ rows }) => rows.map(({ id }) => id));
    expect(chosen(['layers'], [])).toEqual(ids.filter((id) => id.startsWith('layers/')));
    expect(chosen([], ['peers/tfjs-wasm/t1'])).toEqual(['peers/tfjs-wasm/t1']);
    expect(chosen([], ['peers/tfjs-wasm'])).toEqual(['peers/tfjs-wasm/t1', 'peers/tfjs-wasm/t2']);
    expect(chosen(['peers'], ['networks/vgg11'])).toEqual([]);
    expect(chosen([], [])).toEqual(ids.filter((id) => !id.startsWith('webgpu-full/')));
  });

  test('what runs on request is chosen by its level or its ids alone', () => {
    const levels = (only: Parameters<typeof select>[1], names: string[]) => [
      ...new Set(select(full, only, names).groups.flatMap(({ rows }) => rows.map(({ level }) => level))),
    ];
    expect(levels([], [])).toEqual(LEVELS.filter((level) => !ON_REQUEST.includes(level)));
    expect(levels(['webgpu-full'], [])).toEqual(['webgpu-full']);
    expect(levels([], ['webgpu-full/chromium/tfjs'])).toEqual(['webgpu-full']);
    expect(levels([], ['webgpu'])).toEqual(['webgpu']);
  });

  test('names that match nothing are told', () => {
    expect(select(full, [], ['peers/tfjs', 'peers/tfjs-wasm/t1']).unknown).toEqual(['peers/tfjs']);
  });
});

test('a fused step moves its first layer’s input and weights, and its last layer’s output', () => {
  const row = full.flatMap(({ rows }) => rows).find(({ id }) => id === 'layers/vgg16/wasm-simd/t1');
  if (!row) throw new Error('no such row');
  const pixels = 224 * 224;
  const weights = 64 * 64 * 9 + 64;
  expect(stepBytes(row.job, 'conv1_2+relu1_2')).toBe(4 * (pixels * 64 + weights + pixels * 64));
  expect(stepBytes(row.job, 'conv1_2+relu1_2+pool1')).toBe(4 * (pixels * 64 + weights + (pixels * 64) / 4));
  expect(stepBytes(row.job, 'to nhwc')).toBe(0);
});

test('a quick run’s network is VGG16 with a small classifier', () => {
  const linear = (model: string) =>
    networkLayers(model).flatMap((layer) => (layer.op === 'linear' ? [[layer.inFeatures, layer.outFeatures]] : []));
  expect(linear(QUICK_NETWORK)).toEqual([
    [25088, 256],
    [256, 256],
    [256, 1000],
  ]);
  expect(networkLayers(QUICK_NETWORK).filter(({ op }) => op === 'conv2d')).toEqual(
    networkLayers('vgg16').filter(({ op }) => op === 'conv2d'),
  );
});

test('every target has its rows, which are sampled in turn', () => {
  for (const { what, row, over } of TARGETS) {
    const group = full.find(({ rows }) => rows.some(({ id }) => id === row));
    expect(group, what).toBeDefined();
    for (const id of over)
      expect(
        group?.rows.map((one) => one.id),
        what,
      ).toContain(id);
  }
});
