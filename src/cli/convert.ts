import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { imageToTensor } from '../image/preprocess.js';
import { usualShape } from '../model/config.js';
import { withPrecision } from '../model/precision.js';
import type { VGGNet } from '../model.js';
import { isWeighted } from '../program/layers.js';
import { PRECISIONS, type Precision } from '../program/precision.js';
import { normals } from '../random.js';
import { numel, Tensor } from '../tensor.js';
import { saveFile } from '../weights/save-file.js';
import { checkUsage, UsageError } from './failure.js';
import { medianOf } from './latency.js';
import { describeModel, isRemote, loadModel, type PretrainedPlace, parseModel, withWeights } from './model.js';
import { formatMs, formatTable, print, printable, printJson } from './output.js';

export interface ConvertFlags extends PretrainedPlace {
  readonly precision: Readonly<Record<string, Precision>>;
  readonly calibrate?: string;
  readonly json?: boolean;
}

/** What the smaller weights do to the network's answers. */
export interface ConvertReport {
  readonly input: string;
  readonly output: string;
  /** Bytes of the weights in memory in float32, and of the file that was written. */
  readonly bytes: { readonly fp32: number; readonly file: number };
  /** What the answers were compared on: images of a folder, or normally distributed noise. */
  readonly inputs: { readonly count: number; readonly from: string };
  /** Inputs for which the most likely class is the same. */
  readonly sameTop1: number;
  /** The least cosine, and the largest difference, of the logits of an input, and the largest |logit|. */
  readonly logits: { readonly cosine: number; readonly maxError: number; readonly largest: number };
  /** For the first input: the norm of a layer's error over that of its output. */
  readonly layers: readonly { readonly name: string; readonly precision: Precision; readonly error: number }[];
  /** The median of the forwards, in milliseconds. */
  readonly forwardMs: { readonly fp32: number; readonly converted: number };
}

/** Inputs that answers are compared on. */
const MOST_IMAGES = 64;
const NOISE_INPUTS = 8;

/**
 * `vggnet convert`: low-precision weights as a safetensors file, and how far the answers are from float32's.
 * Both networks run by WebAssembly.
 */
export async function convert(
  input: string,
  output: string,
  flags: ConvertFlags,
  signal: AbortSignal,
): Promise<number> {
  const choice = withWeights(parseModel(input), flags);
  // Before the weights are read, unless that would take a second download.
  if (!isRemote(choice)) {
    const { layers } = await describeModel(choice, signal);
    checkUsage(() => withPrecision(layers, flags.precision));
  }
  const load = (more: object) => loadModel(choice, { device: 'wasm', signal, ...more });
  const { model: whole } = await load({ precision: 'fp32' });
  let before: Answers;
  let inputs: Inputs;
  let inputRanges: Record<string, number> | undefined;
  try {
    inputs = await openInputs(whole, flags.calibrate, signal);
    if (flags.calibrate !== undefined) inputRanges = await whole.calibrate(inputs.tensors(), { signal });
    before = await answer(whole, inputs, signal);
  } finally {
    whole.dispose();
  }
  const { model } = await load({ precision: flags.precision, inputRanges });
  try {
    const file = await saveFile(output, model.save(), { signal });
    const report = compare(before, await answer(model, inputs, signal), model, { input, output, file, inputs });
    if (flags.json) printJson(report);
    else print(printable(format(report)));
    return 0;
  } finally {
    model.dispose();
  }
}

/** Reads `int8,fc=int4,conv1_1=fp32`. @throws UsageError */
export function parsePrecision(text: string): Record<string, Precision> {
  const by: Record<string, Precision> = {};
  for (const part of text.split(',')) {
    const [name, value = name, ...more] = part.trim().split('=');
    const key = part.includes('=') ? (name as string) : 'default';
    if (more.length > 0 || !PRECISIONS.includes(value as Precision) || key === '' || key in by) {
      throw new UsageError(
        `--precision: expected ${PRECISIONS.join(', ')}, or LAYER=PRECISION, each once, with commas, such as int8,fc=int4; got '${part}'`,
      );
    }
    by[key] = value as Precision;
  }
  return by;
}

interface Inputs {
  readonly from: string;
  readonly count: number;
  /** The same ones each time. */
  tensors(): AsyncIterable<Tensor>;
}

async function openInputs(model: VGGNet, folder: string | undefined, signal: AbortSignal): Promise<Inputs> {
  if (folder === undefined) {
    const shape = usualShape(model.config, model.layers);
    return {
      from: 'noise',
      count: NOISE_INPUTS,
      async *tensors() {
        for (let seed = 0; seed < NOISE_INPUTS; seed++) {
          const data = new Float32Array(numel(shape));
          normals(data, seed);
          yield new Tensor(data, shape);
        }
      },
    };
  }
  const { preset } = model.config;
  if (!preset)
    throw new UsageError(`--calibrate: an image has 1 or 3 channels and this network takes ${model.config.inChannels}`);
  const files = await imagesOf(folder);
  return {
    from: folder,
    count: files.length,
    async *tensors() {
      for (const file of files) yield await imageToTensor(file, preset, { signal });
    },
  };
}

async function imagesOf(folder: string): Promise<string[]> {
  const found = await readdir(folder).catch((cause) => {
    throw new UsageError(`--calibrate: the folder '${folder}' can't be read: ${(cause as Error).message}`, 'IO');
  });
  const files: string[] = [];
  for (const name of found.sort()) {
    const path = join(folder, name);
    if (/\.(?:jpe?g|png|webp|gif)$/i.test(name) && (await stat(path)).isFile()) files.push(path);
  }
  if (files.length > 0) return files.slice(0, MOST_IMAGES);
  throw new UsageError(`--calibrate: there are no images (.jpg, .png, .webp, .gif) in '${folder}'`);
}

/** What a network says to the inputs. */
interface Answers {
  readonly logits: readonly Float32Array[];
  /** Of the first input, by layer. */
  readonly outputs: Readonly<Record<string, Tensor>>;
  /** Ascending. */
  readonly ms: readonly number[];
}

async function answer(model: VGGNet, inputs: Inputs, signal: AbortSignal): Promise<Answers> {
  const names = model.layers.filter(isWeighted).map(({ name }) => name);
  const logits: Float32Array[] = [];
  const ms: number[] = [];
  let outputs: Record<string, Tensor> | undefined;
  for await (const tensor of inputs.tensors()) {
    outputs ??= await model.features(tensor, names, { signal });
    // Not timed with what is made for the first time.
    if (ms.length === 0) await model.forward(tensor, { signal });
    const start = performance.now();
    logits.push((await model.forward(tensor, { signal })).data);
    ms.push(performance.now() - start);
  }
  return { logits, outputs: outputs ?? {}, ms: ms.sort((a, b) => a - b) };
}

function compare(
  before: Answers,
  after: Answers,
  model: VGGNet,
  { input, output, file, inputs }: { input: string; output: string; file: number; inputs: Inputs },
): ConvertReport {
  const pairs = before.logits.map((a, i) => [a, after.logits[i] as Float32Array] as const);
  const layers = model.layers.filter(isWeighted).map(({ name, precision = 'fp32' }) => {
    const [a, b] = [before.outputs[name] as Tensor, after.outputs[name] as Tensor];
    return { name, precision, error: distance(a.data, b.data) };
  });
  return {
    input,
    output,
    bytes: { fp32: 4 * model.parameters, file },
    inputs: { count: inputs.count, from: inputs.from },
    sameTop1: pairs.filter(([a, b]) => indexOfLargest(a) === indexOfLargest(b)).length,
    logits: {
      cosine: Math.min(...pairs.map(([a, b]) => cosine(a, b))),
      maxError: Math.max(
        ...pairs.map(([a, b]) => a.reduce((most, x, i) => Math.max(most, Math.abs(x - (b[i] as number))), 0)),
      ),
      largest: Math.max(...pairs.map(([a]) => a.reduce((most, x) => Math.max(most, Math.abs(x)), 0))),
    },
    layers,
    forwardMs: { fp32: medianOf(before.ms), converted: medianOf(after.ms) },
  };
}

function indexOfLargest(values: Float32Array): number {
  return values.reduce((best, value, i) => (value > (values[best] as number) ? i : best), 0);
}

function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
}

function cosine(a: Float32Array, b: Float32Array): number {
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

/** |a − b| / |a| */
function distance(a: Float32Array, b: Float32Array): number {
  const difference = a.map((x, i) => x - (b[i] as number));
  return Math.sqrt(dot(difference, difference) / dot(a, a));
}

function format(report: ConvertReport): string {
  const { bytes, inputs, sameTop1, logits, layers, forwardMs } = report;
  const mib = (count: number): string => `${(count / 2 ** 20).toFixed(1)} MiB`;
  const percent = (share: number): string => `${(100 * share).toFixed(2)}%`;
  const of = inputs.from === 'noise' ? `${inputs.count} inputs of noise` : `${inputs.count} images of ${inputs.from}`;
  return [
    `${report.output}: ${mib(bytes.file)}, of ${mib(bytes.fp32)} in fp32`,
    `Against fp32, on ${of}:`,
    `  top-1          the same for ${sameTop1} of ${inputs.count}`,
    `  logits         cosine ${logits.cosine.toFixed(6)} or more, largest error ${logits.maxError.toPrecision(3)} (largest logit ${logits.largest.toPrecision(3)})`,
    `  forward        ${formatMs(forwardMs.converted)}, in fp32 ${formatMs(forwardMs.fp32)}`,
    '',
    formatTable(
      [['layer', 'precision', 'error'], ...layers.map((one) => [one.name, one.precision, percent(one.error)])],
      2,
    ),
  ].join('\n');
}
