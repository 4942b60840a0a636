import { describe, expect, test } from 'vitest';
import type { ParameterStream } from '../../src/backend.js';
import { withPrecision } from '../../src/model/precision.js';
import { type Layer, parametersOf } from '../../src/program/layers.js';
import type { Tensor } from '../../src/tensor.js';
import { MODEL_NAMES } from '../../src/vgg.js';
import { createWasmBackend } from '../../src/wasm/backend.js';
import { toFloat16, toFloat32 } from '../../src/weights/dtype.js';
import { GPU_TOLERANCE } from '../support/backends.js';
import { expectClose } from '../support/close.js';
import { generatedParameters } from '../support/generated.js';
import { compileGenerated, type GoldenCase, inputOf, layersOf, positions, readGolden } from '../support/golden.js';
import { webgpu } from '../support/webgpu.js';

/*
 * precision: 'fp16' on whole networks. Only the storage of weights is half precision, so there are two bounds:
 *
 * 1. The logits are those of the network whose weights are rounded to float16, to the GPU's own tolerance in fp32.
 * 2. Against the exact network: rounding moves each weight by at most u = 2^-11 of itself, up or down as it falls. So a
 *    layer's sum is off by at most u · √(Σ (w · x)²) if the moves are taken as independent, which is u of the layer's
 *    output in the Euclidean norm; ReLU and pools add nothing; and what earlier layers were off by goes through as
 *    their outputs do. Errors of L layers with weights add in squares: ‖Δlogits‖ ≤ u · √L · ‖logits‖.
 */

const U = 2 ** -11;

async function* rounded(layers: readonly Layer[]): ParameterStream {
  const matrices = new Set(layers.flatMap(parametersOf).flatMap(({ name, shape }) => (shape.length > 1 ? [name] : [])));
  for await (const chunk of generatedParameters(layers)) {
    const { name, data } = chunk;
    yield matrices.has(name) ? { ...chunk, data: toFloat32(new Uint8Array(toFloat16(data).buffer), 'F16') } : chunk;
  }
}

function smallCase(model: string): GoldenCase {
  return readGolden<GoldenCase>(model).find(({ shape }) => shape[2] === 96) as GoldenCase;
}

describe('weights stored as halves', () => {
  test.each([...MODEL_NAMES])('%s: logits within u · √L of PyTorch’s', { timeout: 120_000 }, async (model) => {
    const golden = smallCase(model);
    const layers = withPrecision(layersOf(golden), 'fp16');
    const executable = await compileGenerated(await webgpu(), layers);
    const outputs = { outputs: ['fc8'], mode: 'eval', seed: 0 } as const;
    const [logits] = await executable.run(inputOf(golden, 1), outputs);
    executable.dispose();
    const values = golden.outputs.fc8?.images[0]?.values as readonly number[];
    const got = positions(1000, values.length).map((index) => (logits as Tensor).data[index] as number);
    const weighted = layers.filter(({ op }) => op === 'conv2d' || op === 'linear').length;
    const off = Math.hypot(...got.map((value, i) => value - (values[i] as number))) / Math.hypot(...values);
    expect(off).toBeLessThan(U * Math.sqrt(weighted));
    // Halves were indeed used: fp32 would be a hundred times closer.
    expect(off).toBeGreaterThan(U / 100);
  });

  const small = readGolden<GoldenCase>('small').filter(({ mode }) => mode !== 'train');
  test.each(small)('$name is the network with rounded weights', async (golden) => {
    const layers = layersOf(golden);
    const outputs = Object.keys(golden.outputs);
    const options = { outputs, mode: 'eval', seed: 0 } as const;
    const wasm = createWasmBackend({ inline: true, reason: 'asked for by a test' });
    const oracle = await wasm.compile({ layers }, rounded(layers));
    const expected = await oracle.run(inputOf(golden), options);
    oracle.dispose();
    const executable = await compileGenerated(await webgpu(), withPrecision(layers, 'fp16'));
    const actual = await executable.run(inputOf(golden), options);
    executable.dispose();
    for (const [i, name] of outputs.entries()) {
      const what = `${name} of ${golden.name}`;
      expectClose(actual[i]?.data ?? [], expected[i]?.data ?? [], { ...GPU_TOLERANCE, what });
    }
  });
});
