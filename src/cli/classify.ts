import { VGGNetError } from '../errors.js';
import type { DeviceName } from '../model/options.js';
import type { Prediction } from '../model/predictions.js';
import type { VGGNet } from '../model.js';
import { reportFailure, UsageError } from './failure.js';
import { chooseModel, loadModel, type PretrainedPlace, withWeights } from './model.js';
import { formatDevice, formatMs, print, printable, printJson } from './output.js';

export interface ClassifyFlags extends PretrainedPlace {
  readonly model?: string;
  readonly weights?: string;
  /** Default 5, or all classes if there are fewer. */
  readonly top?: number;
  readonly device: DeviceName;
  readonly json?: boolean;
}

interface ClassifiedImage {
  readonly file: string;
  readonly predictions: readonly Prediction[];
  readonly ms: { readonly preprocess: number; readonly forward: number };
}

/** `vggnet classify`. An image that fails is reported, and the others go on; the exit code is then 1. */
export async function classify(files: readonly string[], flags: ClassifyFlags, signal: AbortSignal): Promise<number> {
  const choice = withWeights(chooseModel(flags), flags);
  const { model, loadMs } = await loadModel(choice, { device: flags.device, signal });
  try {
    const topK = topOf(flags.top, model.config.numClasses);
    // So that reading them is not timed with the first image.
    await model.labels();
    const { device } = model;
    const { name } = model.config;
    if (!flags.json) print(`${printable(name)} on ${formatDevice(device)}, loaded in ${formatMs(loadMs)}`);
    const images: ClassifiedImage[] = [];
    let failed = false;
    for (const file of files) {
      try {
        const image = await classifyImage(model, file, topK, signal);
        images.push(image);
        if (!flags.json) print(formatImage(image));
      } catch (error) {
        if (signal.aborted) throw error;
        failed = true;
        reportFailure(withFile(error, file));
      }
    }
    if (flags.json) printJson({ model: name, device, loadMs, images });
    return failed ? 1 : 0;
  } finally {
    model.dispose();
  }
}

function topOf(top: number | undefined, numClasses: number): number {
  if (top === undefined) return Math.min(5, numClasses);
  if (top <= numClasses) return top;
  throw new UsageError(`--top must be an integer from 1 to ${numClasses}, the number of classes, got ${top}`);
}

async function classifyImage(model: VGGNet, file: string, topK: number, signal: AbortSignal): Promise<ClassifiedImage> {
  const start = performance.now();
  const input = await model.preprocess(file, { signal });
  const middle = performance.now();
  const predictions = await model.classify(input, { topK, signal });
  const end = performance.now();
  return { file, predictions, ms: { preprocess: middle - start, forward: end - middle } };
}

function formatImage({ file, predictions, ms }: ClassifiedImage): string {
  const times = `preprocess ${formatMs(ms.preprocess)}, forward ${formatMs(ms.forward)}`;
  const lines = predictions.map(({ label, probability }) => {
    return `${(probability * 100).toFixed(2).padStart(7)}%  ${printable(label)}`;
  });
  return ['', `${printable(file)}  (${times})`, ...lines].join('\n');
}

/** The message names the file, of which there may be many. */
function withFile(error: unknown, file: string): unknown {
  if (!(error instanceof VGGNetError) || error.message.includes(file)) return error;
  return new VGGNetError(error.code, `${file}: ${error.message}`, { cause: error });
}
