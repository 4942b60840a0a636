import type { ParameterChunk, ParameterStream } from '../../src/backend.js';
import { lowbias32 } from '../../src/program/dropout.js';
import { type Layer, parametersOf } from '../../src/program/layers.js';
import { numel, Tensor } from '../../src/tensor.js';

/*
 * The weights and inputs of the tests: element i of a tensor is a hash of i and of the tensor's name, scaled by
 * its kind. test/golden/make-networks.py has the other half, and makes the same numbers to the last bit.
 */

/** Kaiming for weights (variance 2 / fan-in), variance 1 for an input, and batch norms that are not trivial. */
export type GeneratedKind =
  | 'weight'
  | 'bias'
  | 'norm.weight'
  | 'norm.bias'
  | 'norm.running_mean'
  | 'norm.running_var'
  | 'input';

/** 1 MiB of values. */
const CHUNK = 2 ** 18;

/** Every parameter of the layers, in chunks, made as they are asked for. */
export async function* generatedParameters(layers: readonly Layer[]): ParameterStream {
  for (const layer of layers) {
    for (const { name, shape } of parametersOf(layer)) {
      const key = name.slice(layer.path.length + 1);
      yield* generatedChunks(name, shape, (layer.op === 'batchNorm2d' ? `norm.${key}` : key) as GeneratedKind);
    }
  }
}

export function generatedTensor(name: string, shape: readonly number[], kind: GeneratedKind): Tensor {
  const tensor = Tensor.zeros(shape);
  for (const { offset, data } of generatedChunks(name, shape, kind)) tensor.data.set(data, offset);
  return tensor;
}

function* generatedChunks(name: string, shape: readonly number[], kind: GeneratedKind): Generator<ParameterChunk> {
  const seed = fnv1a(name);
  const size = numel(shape);
  for (let offset = 0; offset < size; offset += CHUNK) {
    const data = new Float32Array(Math.min(CHUNK, size - offset));
    fill(data, offset, seed, distribution(shape, kind));
    yield { name, offset, data };
  }
}

/** A plain function, as engines optimise the loop of a generator far less: 140 million values take under a second. */
function fill(data: Float32Array, offset: number, seed: number, { factor, shift, scale }: Distribution): void {
  const hash = lowbias32;
  for (let i = 0; i < data.length; i++) {
    const u = (hash((seed + Math.imul(offset + i, 0x9e3779b9)) | 0) >>> 8) * 2 ** -24;
    data[i] = (factor * u + shift) * scale;
  }
}

/** A value is (factor · u + shift) · scale of u in [0, 1); only the last product rounds in float64. */
interface Distribution {
  readonly factor: number;
  readonly shift: number;
  readonly scale: number;
}

function distribution(shape: readonly number[], kind: GeneratedKind): Distribution {
  const around0 = (scale: number): Distribution => ({ factor: 2, shift: -1, scale });
  switch (kind) {
    case 'weight':
      return around0(Math.sqrt(6 / numel(shape.slice(1))));
    case 'bias':
      return around0(0.1);
    case 'norm.weight':
    case 'norm.running_var':
      return { factor: 1, shift: 0.5, scale: 1 };
    case 'norm.bias':
    case 'norm.running_mean':
      return around0(0.2);
    case 'input':
      return around0(Math.sqrt(3));
  }
}

/** The 32-bit FNV-1a hash of a string's UTF-8. */
function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash | 0;
}
