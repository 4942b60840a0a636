import { readFileSync } from 'node:fs';
import type { WeightsInput } from '../../src/weights/bytes/bytes.js';
import { openWeights } from '../../src/weights/open.js';
import type { WeightSource } from '../../src/weights/source.js';
import { collect } from './collect.js';

/* Files that PyTorch, ONNX and NumPy wrote: test/golden/make-checkpoints.py. */

const folder = new URL('../golden/checkpoints/', import.meta.url);

export function fixturePath(name: string): string {
  return new URL(name, folder).pathname;
}

export function fixture(name: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(readFileSync(fixturePath(name)));
}

export function fixtureJson<T>(name: string): T {
  return JSON.parse(readFileSync(fixturePath(name), 'utf8')) as T;
}

/** All tensors of floats, by name. */
export async function readFloats(input: WeightsInput): Promise<Map<string, Float32Array>> {
  return floatsOf(await openWeights(input));
}

export function floatsOf(source: WeightSource): Promise<Map<string, Float32Array>> {
  const floats = source.entries.filter(({ dtype }) => /^B?F\d/.test(dtype));
  return collect(source.chunks(new Set(floats.map(({ name }) => name))));
}

/** Values by their bits, so that -0 and NaN count. */
export function bitsOf(values: Float32Array): string {
  return Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString('hex');
}

export function bitsOfAll(tensors: ReadonlyMap<string, Float32Array>): Record<string, string> {
  return Object.fromEntries([...tensors].map(([name, values]) => [name, bitsOf(values)]));
}
