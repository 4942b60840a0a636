import { readFile } from 'node:fs/promises';
import type { Conv2d, Layer } from '../../../src/program/layers.js';
import type { Tensor } from '../../../src/tensor.js';
import { Engine } from '../../../src/wasm/engine/engine.js';
import { TILE_SIZES } from '../../../src/wasm/plan/algorithm.js';
import { PlanCache } from '../../../src/wasm/plan/plan-cache.js';
import { generatedParameters, generatedTensor } from '../../../test/support/generated.js';
import { layerCosts } from '../network.js';

/*
 * The error of VGG16's convolutions against sums in float64, by algorithm: together with time it decides which one the
 * library uses. Inputs come from a ReLU, weights are Kaiming's, biases zero.
 */

/** Every so many output channels are held against the reference. */
const STEP = 8;
const ALGORITHMS = ['direct', ...TILE_SIZES] as const;

interface Error {
  /** ‖error‖ / ‖reference‖ */
  readonly relative: number;
  /** The largest error, in units of the reference's root mean square. */
  readonly largest: number;
}

/** A Markdown table for each build; `kernels` is the folder of the .wasm files. */
export async function printLayerErrors(kernels: URL): Promise<void> {
  for (const build of ['simd', 'relaxed-simd']) {
    const bytes = await readFile(new URL(`${build}.wasm`, kernels));
    if (!WebAssembly.validate(bytes)) {
      console.log(`\n${build}: this runtime does not have it`);
      continue;
    }
    const module = await WebAssembly.compile(bytes);
    console.log(`\n${build}: relative L2 error; largest error in units of the output's root mean square\n`);
    console.log(
      `| layer | input | ${ALGORITHMS.map((algorithm) => (algorithm === 'direct' ? algorithm : `F(${algorithm}×${algorithm})`)).join(' | ')} |`,
    );
    console.log(`| --- | --- |${' --- |'.repeat(ALGORITHMS.length)}`);
    const seen = new Set<string>();
    for (const { layer, inShape } of layerCosts('vgg16', 1, 224)) {
      const key = [...inShape, 'outChannels' in layer && layer.outChannels].join();
      if (layer.op !== 'conv2d' || layer.inChannels === 3 || seen.has(key)) continue;
      seen.add(key);
      const errors = await errorsOf(module, layer, inShape);
      const cells = errors.map(({ relative, largest }) => `${relative.toExponential(1)}; ${largest.toExponential(1)}`);
      console.log(`| ${layer.name} | ${inShape.slice(1).join('×')} | ${cells.join(' | ')} |`);
    }
  }
}

async function errorsOf(module: WebAssembly.Module, conv: Conv2d, shape: readonly number[]): Promise<Error[]> {
  const layers: Layer[] = [{ op: 'relu', name: 'relu', path: '' }, conv];
  const weights = generatedTensor(`${conv.path}.weight`, [conv.outChannels, conv.inChannels, 3, 3], 'weight').data;
  const input = generatedTensor(conv.name, shape, 'input');
  const rectified = input.data.map((value) => Math.max(value, 0));
  const reference = convolve(rectified, weights, conv, shape);
  const size = norm(reference);
  const errors: Error[] = [];
  for (const algorithm of ALGORITHMS) {
    const plans = new PlanCache({ layers }, { winograd: algorithm === 'direct' ? false : algorithm, threads: 1 });
    const engine = await Engine.create(module, plans.config);
    for await (const chunk of generatedParameters(layers)) {
      if (chunk.name.endsWith('bias')) chunk.data.fill(0);
      engine.writeParameter(chunk);
    }
    engine.finishParameters();
    const control = { pause: async () => {}, aborted: () => false, onStep: () => {} };
    const options = { outputs: [conv.name], mode: 'eval', seed: 0 } as const;
    const [output] = await engine.run(input, plans.plan(input.shape, options), options, control);
    const error = distances(output as Tensor, reference);
    const largest = error.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    errors.push({
      relative: norm(error) / size,
      largest: (largest * Math.sqrt(reference.length)) / size,
    });
  }
  return errors;
}

/** Every `STEP`-th channel of the convolution, in float64. */
function convolve(
  input: Float32Array,
  weights: Float32Array,
  { inChannels, outChannels }: Conv2d,
  [, , height = 0, width = 0]: readonly number[],
): Float64Array {
  const plane = height * width;
  const out = new Float64Array((outChannels / STEP) * plane);
  for (let o = 0; o < outChannels / STEP; o++) {
    for (let c = 0; c < inChannels; c++) {
      for (let tap = 0; tap < 9; tap++) {
        const weight = weights[(o * STEP * inChannels + c) * 9 + tap] as number;
        const [dy, dx] = [Math.floor(tap / 3) - 1, (tap % 3) - 1];
        for (let y = Math.max(0, -dy); y < Math.min(height, height - dy); y++) {
          const from = c * plane + (y + dy) * width + dx;
          const to = o * plane + y * width;
          const end = Math.min(width, width - dx);
          for (let x = Math.max(0, -dx); x < end; x++) {
            out[to + x] = (out[to + x] as number) + weight * (input[from + x] as number);
          }
        }
      }
    }
  }
  return out;
}

function distances({ data, shape }: Tensor, reference: Float64Array): Float64Array {
  const plane = (shape[2] as number) * (shape[3] as number);
  return reference.map((value, i) => {
    const channel = Math.floor(i / plane) * STEP;
    return (data[channel * plane + (i % plane)] as number) - value;
  });
}

/** The L2 norm. */
function norm(values: Float64Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
}
