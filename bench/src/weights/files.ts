import { createWriteStream, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type ParameterSpec, parametersOf } from '../../../src/program/layers.js';
import { writeSafetensors } from '../../../src/weights/write.js';
import { type GeneratedKind, generatedTensor } from '../../../test/support/generated.js';
import type { PrecisionName } from '../job.js';
import { networkLayers, networkOf } from '../network.js';
import { type Library, PRECISIONS } from '../systems/vggnet.js';
import { checkpoint } from './pth.js';

/** Of the file's contents: raise it when they change, so that old files in .cache are not taken. */
const VERSION = 1;
/** Of the input, unless a row says another. */
const SIZE = 224;

export interface WeightFiles {
  readonly safetensors: string;
  readonly onnx: string;
  readonly pth: string;
}

/**
 * A network's weights in `folder`, the same values as safetensors and as ONNX; made if they are not there. They are
 * those of the tests (test/support/generated.ts), for which PyTorch's logits are stored.
 */
export async function prepareWeights(
  folder: string,
  model: string,
  options: { size: number; onnx: boolean; pth: boolean; signal: AbortSignal },
): Promise<WeightFiles> {
  mkdirSync(folder, { recursive: true });
  const { size } = options;
  const files = weightFiles(folder, model, size);
  await makeFile(files.safetensors, () => safetensorsOf(model), options.signal);
  if (options.pth) {
    await makeFile(files.pth, () => Readable.from(checkpoint(parametersFor(model), valuesOf(model))), options.signal);
  }
  if (options.onnx) {
    // On demand: it needs a package that only a bench with peers has.
    const { onnxModel } = await import('./onnx.js');
    await makeFile(files.onnx, () => Readable.from(onnxModel(model, valuesOf(model), size)), options.signal);
  }
  return files;
}

/** A network's low-precision weights as safetensors, as the library writes them; made if they are not there. */
export async function prepareStored(
  folder: string,
  library: string,
  model: string,
  precision: PrecisionName,
  signal: AbortSignal,
): Promise<string> {
  const { safetensors: whole } = weightFiles(folder, model, SIZE);
  const { safetensors: path } = weightFiles(folder, model, SIZE, precision);
  if (existsSync(path)) return path;
  const { VGGNet } = (await import(library)) as Library;
  const options = { device: 'wasm', threads: 1, weights: whole, precision: PRECISIONS[precision], signal } as const;
  const network = networkOf(model);
  const small = await VGGNet.create(network.name, { ...network.options, ...options });
  try {
    await makeFile(path, () => Readable.fromWeb(small.save() as Parameters<typeof Readable.fromWeb>[0]), signal);
  } finally {
    small.dispose();
  }
  return path;
}

/** An ONNX file is of one size of input. */
export function weightFiles(folder: string, model: string, size: number, stored?: PrecisionName): WeightFiles {
  return {
    safetensors: join(folder, `${model}${stored ? `-${stored}` : ''}-v${VERSION}.safetensors`),
    onnx: join(folder, `${model}${size === SIZE ? '' : `-${size}`}-v${VERSION}.onnx`),
    pth: join(folder, `${model}-v${VERSION}.pth`),
  };
}

/** Removes a network's files, of all sizes. */
export function removeWeights(folder: string, model: string): void {
  const own = new RegExp(`^${model}(-[\\w-]+)?-v\\d+\\.(safetensors|onnx|pth)$`);
  for (const file of readdirSync(folder)) if (own.test(file)) rmSync(join(folder, file));
}

/** Reads files through, so that the system has them in memory for every row that loads them. */
export async function warmFiles(paths: readonly string[], signal: AbortSignal): Promise<void> {
  const buffer = Buffer.allocUnsafe(2 ** 23);
  for (const path of paths) {
    const file = await open(path);
    try {
      while ((await file.read(buffer, 0, buffer.length)).bytesRead > 0) signal.throwIfAborted();
    } finally {
      await file.close();
    }
  }
}

async function makeFile(path: string, content: () => Readable, signal: AbortSignal): Promise<void> {
  if (existsSync(path)) return;
  const unfinished = `${path}.${process.pid}`;
  try {
    await pipeline(content(), createWriteStream(unfinished, { highWaterMark: 2 ** 23 }), { signal });
    renameSync(unfinished, path);
  } finally {
    rmSync(unfinished, { force: true });
  }
}

/** The generated values of a parameter of the network, by its torchvision name. */
function valuesOf(model: string): (name: string) => Float32Array {
  const specs = new Map(
    networkLayers(model).flatMap((layer) =>
      parametersOf(layer).map(({ name, shape }) => [name, { shape, norm: layer.op === 'batchNorm2d' }] as const),
    ),
  );
  return (name) => {
    const spec = specs.get(name);
    if (!spec) throw new Error(`${model} has no parameter ${name}`);
    const key = name.slice(name.lastIndexOf('.') + 1);
    return generatedTensor(name, spec.shape, (spec.norm ? `norm.${key}` : key) as GeneratedKind).data;
  };
}

function parametersFor(model: string): ParameterSpec[] {
  return networkLayers(model).flatMap(parametersOf);
}

function safetensorsOf(model: string): Readable {
  const entries = parametersFor(model);
  // The web's stream and Node's differ in their types alone.
  return Readable.fromWeb(writeSafetensors(entries, valuesOf(model)) as Parameters<typeof Readable.fromWeb>[0]);
}
