import { VGGNetError } from '../errors.js';
import { DecodePool } from '../image/decode-pool.js';
import { type Prediction, topClasses } from '../model/predictions.js';
import type { VGGNet } from '../model.js';
import type { Tensor } from '../tensor.js';
import { SMALL_ANSWER } from './answer.js';
import type { Batcher } from './batcher.js';
import { readBody } from './body.js';
import type { Lease } from './budget.js';
import { withDeadline } from './deadline.js';
import { answerTo, quote, RequestError } from './failure.js';
import { imageFiles } from './images.js';
import type { Incoming } from './incoming.js';
import { Lifecycle } from './lifecycle.js';
import { Limits } from './limits.js';
import { type Loader, loaderOf, type ModelSource } from './model.js';
import { batcherOf, taskOf } from './network.js';
import { inferResponse, JSON_LENGTH_HEADER, outputBytes, parseInfer } from './open-inference.js';
import { type ServeOptions, type Settings, settingsOf } from './options.js';
import { ServerMetrics } from './server-metrics.js';

type Bytes = Uint8Array<ArrayBuffer>;

/** A request that was let in: its body, and the signal that ends its work. */
interface Work {
  readonly signal: AbortSignal;
  readonly body: () => Promise<Bytes>;
}

/** What one image of a form is answered by. */
type ImageResult =
  | { readonly predictions: Prediction[] }
  | { readonly index: number; readonly error: string; readonly code: string };

/** Where an infer request goes: the network, and the names that the answer begins with. */
interface Target {
  readonly network: VGGNet;
  readonly model_name: string;
  readonly model_version: string;
}

/** What answers requests, below HTTP's paths and methods. */
export class Service {
  readonly settings: Settings;
  readonly lifecycle: Lifecycle = new Lifecycle();
  readonly metrics: ServerMetrics;
  readonly loader: Loader;
  readonly onError: (error: unknown) => void;
  readonly #limits: Limits;
  readonly #decoders: DecodePool;
  readonly #batcher: Batcher;
  readonly #layers: readonly string[];

  constructor(model: ModelSource, options: ServeOptions) {
    this.settings = settingsOf(options);
    this.onError = options.onError ?? ((error: unknown) => console.error(error));
    this.loader = loaderOf(model, this.onError);
    this.#limits = new Limits(this.settings);
    this.#layers = options.layers ?? [];
    const { maxDecodedBytes, maxPixels } = this.settings;
    this.#decoders = new DecodePool({ maxBytes: maxDecodedBytes, maxPixels, decode: options.decode });
    this.metrics = new ServerMetrics({
      waiting: () => this.#decoders.waiting + this.#batcher.waiting,
      active: () => this.lifecycle.active,
      bodyBytes: () => this.#limits.bodies.used,
      outputBytes: () => this.#limits.outputs.used,
    });
    this.#batcher = batcherOf(this.loader, this.settings, (images) => this.metrics.ran(images));
  }

  /** The most likely classes of an image, or of each of a form. */
  classify(incoming: Incoming, query: string | undefined): Promise<Response> {
    return this.#answer(incoming, async ({ signal, body }) => {
      const network = await this.loader.load();
      const { numClasses } = network.config;
      topKOf(query, numClasses);
      const { files, many, topK: field } = imageFiles(incoming, await body(), this.#limits.slots.limit);
      const topK = topKOf(query ?? field, numClasses);
      const labels = await network.labels();
      const one = async (file: Bytes): Promise<Prediction[]> => {
        const input = await this.#decode(file, network, signal);
        const [probabilities] = await this.#batcher.submit(input, ['prob'], signal);
        const { data } = probabilities as Tensor;
        if (data.every(Number.isFinite)) return topClasses(data, topK, labels);
        throw new RequestError(500, 'NOT_FINITE', 'The network gave values that are not finite');
      };
      const places = this.#limits.wait(files.length);
      try {
        if (!many) return Response.json({ predictions: await one(files[0] as Bytes) });
        return formAnswer(await Promise.allSettled(files.map(one)), this.onError);
      } finally {
        places.release();
      }
    });
  }

  /** Logits and the like of a tensor, by the Open Inference Protocol. */
  infer(incoming: Incoming, find: () => Promise<Target>): Promise<Response> {
    return this.#answer(incoming, async ({ signal, body }) => {
      const { network, ...names } = await find();
      const { maxImages, maxInputPixels, maxBodyBytes } = this.settings;
      const inputLimits = { maxImages, maxInputPixels, maxValues: Math.floor(maxBodyBytes / 4) };
      const jsonLength = incoming.headers.get(JSON_LENGTH_HEADER);
      const { id, input, outputs } = await parseInfer(await body(), jsonLength, inputLimits);
      const asked = outputs.map(({ name }) => name);
      const { layers, sizes } = taskOf(network, input.shape, asked, this.#layers);
      const held = sizes.reduce((sum, size) => sum + size * 4, 0);
      const lease = this.#limits.answer(outputBytes(outputs, sizes), held > SMALL_ANSWER ? held : 0);
      try {
        const place = this.#limits.wait(1);
        const tensors = await this.#batcher.submit(input, layers, signal).finally(place.release);
        return await inferResponse({ ...names, id }, outputs, tensors, this.settings, lease);
      } catch (error) {
        lease.release();
        throw error;
      }
    });
  }

  /** Does the work of a request within its limits. What it holds is counted until it has let go of it. */
  #answer(incoming: Incoming, work: (work: Work) => Promise<Response>): Promise<Response> {
    const lease = this.#limits.admit(incoming);
    return withDeadline(this.settings.timeout, incoming.signal, (signal) =>
      work({ signal, body: () => this.#body(incoming, lease, signal) }).finally(lease.release),
    );
  }

  #body(incoming: Incoming, lease: Lease, signal: AbortSignal): Promise<Bytes> {
    return readBody(incoming, this.settings, lease, signal);
  }

  #decode(file: Bytes, { config: { preset } }: VGGNet, signal: AbortSignal): Promise<Tensor> {
    if (!preset) throw new RequestError(501, 'NO_PRESET', 'This network takes tensors only: use /v2');
    return this.#decoders.imageToTensor(file, preset, { signal });
  }
}

/** @throws RequestError 400 */
function topKOf(text: string | undefined, numClasses: number): number {
  if (text === undefined) return Math.min(5, numClasses);
  const topK = Number(text);
  if (/^\d{1,9}$/.test(text) && topK >= 1 && topK <= numClasses) return topK;
  const got = quote(text).slice(1, -1);
  throw new RequestError(400, 'INVALID_REQUEST', `topK must be an integer from 1 to ${numClasses}, got '${got}'`);
}

/** The results of a form's images: a bad one costs the others nothing. If all are bad, it is what the first one is. */
function formAnswer(settled: PromiseSettledResult<Prediction[]>[], onError: (error: unknown) => void): Response {
  const rejected = settled.filter((result) => result.status === 'rejected');
  for (const { reason } of rejected) {
    // The request itself ended.
    if (reason instanceof VGGNetError && reason.code === 'ABORTED') throw reason;
    if (answerTo(reason).code === 'UNEXPECTED') onError(reason);
  }
  const results = settled.map((result, index): ImageResult => {
    if (result.status === 'fulfilled') return { predictions: result.value };
    const { code, message } = answerTo(result.reason);
    return { index, error: message, code };
  });
  const [first] = rejected;
  if (!first || rejected.length < settled.length) return Response.json({ results });
  const { status, code, message, headers } = answerTo(first.reason);
  return Response.json({ error: message, code, results }, { status, headers });
}
