import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import type { Backend, Executable, RunOptions } from '../../src/backend.js';
import { resolveConfig } from '../../src/model/config.js';
import type { Layer } from '../../src/program/layers.js';
import { numel, Tensor } from '../../src/tensor.js';
import { type Architecture, createLayers, type ModelOptions } from '../../src/vgg.js';
import { expectClose, type Tolerance } from './close.js';
import { generatedParameters, generatedTensor } from './generated.js';

/* The files that test/golden/make-networks.py makes, and how an output is held against them. */

/** What is stored of one layer's output. */
export interface ExpectedOutput {
  readonly shape: readonly number[];
  /** One entry an image; the first images of the batch where not all are kept. */
  readonly images: readonly {
    /** At the indices of `positions`. */
    readonly values: readonly number[];
    readonly sum: number;
    readonly norm: number;
    /** Indices of the largest values, largest first. */
    readonly top?: readonly number[];
  }[];
}

export interface GoldenNetwork {
  readonly name?: string;
  /** A known name, or else `architecture` and `options`. */
  readonly model?: string;
  readonly architecture?: Architecture;
  readonly options?: ModelOptions;
  /** Of the input, whose values are `generatedTensor('input', shape, 'input')`. */
  readonly shape: readonly number[];
}

export interface GoldenCase extends GoldenNetwork {
  readonly mode?: 'train';
  /** 'lesson' where the lesson's own class made the values, and not torchvision. */
  readonly by?: 'lesson';
  readonly outputs: Readonly<Record<string, ExpectedOutput>>;
  /** Running statistics after a forward in train mode. */
  readonly running?: Readonly<Record<string, readonly number[]>>;
}

/** A network whose input has some NaN or infinite values. */
export interface SpecialCase extends GoldenNetwork {
  readonly name: string;
  readonly changes: readonly (readonly [index: number, value: string])[];
  /** A letter a value of each layer's output: `.` finite, `n` NaN, `+` and `-` infinities. */
  readonly kinds: Readonly<Record<string, string>>;
  readonly logits: readonly (number | string)[];
}

/**
 * What the project promises of logits, and holds every layer of the small and large networks to. float32 sums of
 * up to 25,088 products, through up to 19 layers, on values up to about 20, stay within it in any order of summing.
 */
export const NETWORK_TOLERANCE: Tolerance = { atol: 1e-4, rtol: 1e-4 };

export function readGolden<T>(name: string): T[] {
  return JSON.parse(readFileSync(new URL(`../golden/${name}.json`, import.meta.url), 'utf8')) as T[];
}

export function layersOf({ model, architecture, options }: GoldenNetwork): Layer[] {
  return createLayers(resolveConfig(model ?? architecture ?? [], options));
}

export function compileGenerated(backend: Backend, layers: readonly Layer[]): Promise<Executable> {
  return backend.compile({ layers }, generatedParameters(layers));
}

/** The first `batch` images of a case's input. */
export function inputOf({ shape }: GoldenNetwork, batch: number = shape[0] as number): Tensor {
  const whole = generatedTensor('input', shape, 'input');
  const first = [batch, ...shape.slice(1)];
  return new Tensor(whole.data.slice(0, numel(first)), first);
}

/** Runs a case's first `batch` images, and checks all that is stored about them. */
export async function expectCase(
  executable: Executable,
  golden: GoldenCase,
  what: string,
  batch: number = golden.shape[0] as number,
  tolerance: Tolerance = NETWORK_TOLERANCE,
): Promise<void> {
  const names = Object.keys(golden.outputs);
  const options: RunOptions = { outputs: names, mode: golden.mode ?? 'eval', seed: 0 };
  const outputs = await executable.run(inputOf(golden, batch), options);
  for (const [i, name] of names.entries()) {
    expectOutput(outputs[i] as Tensor, golden.outputs[name] as ExpectedOutput, batch, `${name} ${what}`, tolerance);
  }
  for (const [name, values] of Object.entries(golden.running ?? {})) {
    expectClose(await executable.readParameter(name), values, { ...tolerance, what: `${name} ${what}` });
  }
}

function expectOutput(
  output: Tensor,
  expected: ExpectedOutput,
  batch: number,
  what: string,
  tolerance: Tolerance,
): void {
  expect(output.shape, what).toEqual([batch, ...expected.shape.slice(1)]);
  const size = numel(expected.shape.slice(1));
  for (const [n, { values, sum, norm, top }] of expected.images.slice(0, batch).entries()) {
    const image = output.data.subarray(n * size, (n + 1) * size);
    const at = `${what}, image ${n}`;
    const got = positions(size, values.length).map((index) => image[index] as number);
    expectClose(got, values, { ...tolerance, what: `${at}, sampled` });
    // If each value is within its tolerance, the norm of the differences is at most this; rounding errors point
    // either way, so the sum stays within it too.
    const atol = tolerance.atol * Math.sqrt(size) + tolerance.rtol * norm;
    expectClose([total(image)], [sum], { atol, rtol: 0, what: `${at}, sum` });
    expectClose([Math.sqrt(total(image.map((value) => value * value)))], [norm], {
      atol,
      rtol: 0,
      what: `${at}, norm`,
    });
    if (top) expect(largest(image, top.length), `${at}, largest logits`).toEqual(top);
  }
}

/** All indices, or `count` of them scattered by the golden ratio, as the script does. */
export function positions(size: number, count: number): number[] {
  const scattered = (k: number): number => Math.floor((((k * 0x9e3779b1) % 2 ** 32) / 2 ** 32) * size);
  return Array.from({ length: count }, (_, k) => (size <= count ? k : scattered(k)));
}

function total(values: Float32Array): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
}

function largest(values: Float32Array, count: number): number[] {
  return [...values.keys()].sort((a, b) => (values[b] as number) - (values[a] as number)).slice(0, count);
}

/** Checks where NaN and infinities come out, and the logits. */
export async function expectSpecialCase(
  executable: Executable,
  golden: SpecialCase,
  what: string,
  tolerance: Tolerance = NETWORK_TOLERANCE,
): Promise<void> {
  const input = inputOf(golden);
  for (const [index, value] of golden.changes) input.data[index] = Number(value);
  const names = Object.keys(golden.kinds);
  const outputs = await executable.run(input, { outputs: names, mode: 'eval', seed: 0 });
  for (const [i, name] of names.entries()) {
    expect([...(outputs[i] as Tensor).data].map(letterOf).join(''), `${name} ${what}`).toBe(golden.kinds[name]);
  }
  const logits = (outputs[names.indexOf('fc8')] as Tensor).data;
  expectClose(logits, golden.logits.map(Number), { ...tolerance, what: `logits ${what}` });
}

function letterOf(value: number): string {
  if (Number.isFinite(value)) return '.';
  if (Number.isNaN(value)) return 'n';
  return value > 0 ? '+' : '-';
}
