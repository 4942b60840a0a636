import { type Context, Hono, type MiddlewareHandler } from 'hono';
import { bearerAuth } from 'hono/bearer-auth';
import { bodyLimit } from 'hono/body-limit';
import { cors } from 'hono/cors';
import { HTTPException } from 'hono/http-exception';
import { routePath } from 'hono/route';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import { abortable } from '../abort.js';
import { type Prediction, topClasses } from '../model/classify.js';
import type { VGGNet } from '../model.js';
import type { Tensor } from '../tensor.js';
import { VERSION } from '../version.js';
import { Batcher, QueueFullError, type RunBatch } from './batcher.js';
import { answerTo, LATER, RequestError } from './failure.js';
import { imageFiles, imageInput } from './images.js';
import { Metrics } from './metrics.js';
import { isCrash, loaderOf, type ModelSource } from './model.js';
import { inferResponse, JSON_LENGTH_HEADER, parseInfer } from './open-inference.js';
import { type ServeOptions, settingsOf } from './options.js';

/** Answers HTTP requests with a model. */
export interface RequestHandler {
  /** The `fetch` of an edge worker, `Deno.serve` or `Bun.serve`. Never rejects. */
  readonly fetch: (request: Request) => Promise<Response>;
  /** Answers new requests with 503 from now on, and waits for those in progress. The model stays the caller's. */
  readonly drain: () => Promise<void>;
}

interface Env {
  Variables: { signal: AbortSignal };
}

/** The one version of a model that there is. */
const MODEL_VERSION = '1';
const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/**
 * Serves a model over HTTP, by web standards alone:
 * - `POST /classify` with an image, or a form of several: the most likely classes (`?topK=5`)
 * - the Open Inference Protocol v2 under `/v2`, with JSON and binary tensors
 * - `GET /metrics` for Prometheus
 *
 * Requests that wait at the same time share a forward.
 * @throws VGGNetError `INVALID_ARGUMENT` for an option out of its range
 */
export function createHandler(model: ModelSource, options: ServeOptions = {}): RequestHandler {
  const settings = settingsOf(options);
  const reader = { maxPixels: settings.maxPixels, decode: options.decode };
  const metrics = new Metrics();
  const images = metrics.counter('vggnet_images_total', 'Images that went through the network.');
  const requests = metrics.counter('vggnet_requests_total', 'Requests answered, by route and status.');
  const seconds = metrics.histogram('vggnet_request_duration_seconds', 'From a request to its answer.', SECONDS);
  const batches = metrics.histogram('vggnet_batch_images', 'Images in one forward.', [1, 2, 4, 8, 16, 32, 64]);
  const onError = options.onError ?? ((error: unknown) => console.error(error));
  const { load, failed: modelFailed } = loaderOf(model, onError);
  const forward: RunBatch = async (input, outputs, signal) => {
    const network = await load();
    try {
      const taps = await network.features(input, outputs, { signal });
      return outputs.map((name) => taps[name] as Tensor);
    } catch (error) {
      modelFailed(network, error);
      throw error;
    }
  };
  const batcher = new Batcher(
    (...batch) =>
      forward(...batch).catch((error) => {
        // Once more: who shares a forward with the crash of a worker shall not notice, and a second is no accident.
        if (isCrash(error)) return forward(...batch);
        throw error;
      }),
    {
      ...settings,
      onBatch(count) {
        batches.observe(count);
        images.add(count);
      },
    },
  );
  let active = 0;
  let draining = false;
  /** Called when no request is in progress any more. */
  let whenIdle: (() => void)[] = [];
  metrics.gauge('vggnet_requests_waiting', 'Requests that wait for their forward.', () => batcher.waiting);
  metrics.gauge('vggnet_requests_active', 'Requests not answered yet.', () => active);

  /** Images that are being decoded. They count as waiting, so that what will be refused is refused before that work. */
  let decoding = 0;
  const limit = settings.maxQueue + settings.maxBatch;
  const isFull = (): boolean => batcher.waiting + decoding >= limit;
  /** One for all whom it concerns: to trace the stack of an error takes longer than to answer. */
  const full = new QueueFullError(`${limit} images wait already`);
  const decode = async (file: Uint8Array<ArrayBuffer>, network: VGGNet, signal: AbortSignal): Promise<Tensor> => {
    if (isFull()) throw full;
    decoding++;
    try {
      return await imageInput(file, network, reader, signal);
    } finally {
      decoding--;
    }
  };

  const app = new Hono<Env>();
  const failed = (c: Context, error: unknown): Response => {
    const { status, code, message, headers } = answerTo(error instanceof HTTPException ? fromHono(error) : error);
    if (code === 'UNEXPECTED') onError(error);
    return c.json({ error: message, code }, status as ContentfulStatusCode, headers);
  };
  app.onError((error, c) => failed(c, error));
  app.notFound((c) =>
    failed(c, new RequestError(404, 'NOT_FOUND', `Nothing answers ${c.req.method} ${new URL(c.req.url).pathname}`)),
  );

  app.use(async (c, next) => {
    const start = performance.now();
    await next();
    const route = c.res.status === 404 ? 'none' : routePath(c, -1);
    requests.add(1, { route, status: c.res.status });
    seconds.observe((performance.now() - start) / 1000, { route });
  });
  if (options.cors !== undefined) app.use(cors({ origin: options.cors as string | string[] }));

  app.get('/v2/health/live', (c) => c.json({ live: true }));
  app.get('/v2/health/ready', async (c) => {
    if (draining) return c.json({ ready: false }, 503);
    await abortable(load(), c.req.raw.signal);
    return c.json({ ready: true });
  });

  if (options.token !== undefined) app.use(bearerAuth({ token: options.token }));
  app.get('/metrics', (c) =>
    c.text(metrics.text(), 200, { 'Content-Type': 'text/plain; version=0.0.4; charset=utf-8' }),
  );

  // Before the body is read, so that an overload costs little more than its answers.
  app.post('*', (c, next) => (isFull() ? Promise.resolve(failed(c, full)) : next()));
  app.use(deadline(settings.timeout));
  app.use(
    bodyLimit({
      maxSize: settings.maxBodyBytes,
      onError() {
        throw new RequestError(413, 'BODY_TOO_LARGE', `A body may have at most ${settings.maxBodyBytes} bytes`);
      },
    }),
  );

  app.post('/classify', async (c) => {
    const { signal } = c.var;
    const network = await load();
    const topK = topKOf(c.req.query('topK'), network.config.numClasses);
    const { files, many } = await imageFiles(c.req.raw);
    const labels = await network.labels();
    const one = async (file: Uint8Array<ArrayBuffer>): Promise<Prediction[]> => {
      const input = await decode(file, network, signal);
      const [probabilities] = await batcher.submit(input, ['prob'], signal);
      const { data } = probabilities as Tensor;
      if (data.every(Number.isFinite)) return topClasses(data, topK, labels);
      throw new RequestError(500, 'NOT_FINITE', 'The network gave values that are not finite');
    };
    const results = await Promise.all(files.map(one));
    return c.json(many ? { results: results.map((predictions) => ({ predictions })) } : { predictions: results[0] });
  });

  const nameOf = (network: VGGNet): string => options.name ?? network.config.name;
  const named = async (name: string, version: string | undefined): Promise<VGGNet> => {
    const network = await load();
    if (name === nameOf(network) && (version ?? MODEL_VERSION) === MODEL_VERSION) return network;
    throw new RequestError(
      404,
      'UNKNOWN_MODEL',
      `The model is ${nameOf(network)}, version ${MODEL_VERSION}, got ${name}`,
    );
  };
  app.get('/v2', (c) => c.json({ name: 'vggnet', version: VERSION, extensions: ['binary_tensor_data'] }));
  for (const path of ['/v2/models/:name', '/v2/models/:name/versions/:version'] as const) {
    app.get(path, async (c) => {
      const network = await named(c.req.param('name'), c.req.param('version' as never));
      return c.json(metadataOf(nameOf(network), network));
    });
    app.get(`${path}/ready`, async (c) => {
      await named(c.req.param('name'), c.req.param('version' as never));
      return c.json({ ready: true });
    });
    app.post(`${path}/infer`, async (c) => {
      const network = await named(c.req.param('name'), c.req.param('version' as never));
      const body = await c.req.raw.arrayBuffer();
      const { id, input, outputs } = parseInfer(body, c.req.header(JSON_LENGTH_HEADER) ?? null);
      const tensors = await batcher.submit(
        input,
        outputs.map(({ name }) => layerOf(name)),
        c.var.signal,
      );
      return inferResponse({ model_name: nameOf(network), model_version: MODEL_VERSION, id }, outputs, tensors);
    });
  }

  return {
    async fetch(request) {
      const health = new URL(request.url).pathname.startsWith('/v2/health/');
      if (draining && !health) {
        const headers = { ...LATER, Connection: 'close' };
        return Response.json({ error: 'The server is shutting down', code: 'DRAINING' }, { status: 503, headers });
      }
      active++;
      try {
        return await app.fetch(request);
      } finally {
        active--;
        if (active === 0) {
          for (const tell of whenIdle) tell();
          whenIdle = [];
        }
      }
    },
    async drain() {
      draining = true;
      if (active > 0) await new Promise<void>((resolve) => whenIdle.push(resolve));
    },
  };
}

/** The reason of a signal that fired since the request took too long. */
const TIMEOUT = Symbol('timeout');

/** Gives a request a signal that fires when it has taken too long or its client has gone, and answers then. */
function deadline(ms: number): MiddlewareHandler<Env> {
  return async (c, next) => {
    // Not AbortSignal.timeout, whose timer holds what belongs to the request until it fires.
    const controller = new AbortController();
    const { signal } = controller;
    const timer = setTimeout(() => controller.abort(TIMEOUT), ms);
    const isLate = (): boolean => signal.reason === TIMEOUT;
    const client = c.req.raw.signal;
    const leave = (): void => controller.abort(client.reason);
    client.addEventListener('abort', leave);
    if (client.aborted) leave();
    c.set('signal', signal);
    try {
      await abortable(next(), signal);
    } catch (error) {
      throw isLate() ? tooLate(ms) : error;
    } finally {
      clearTimeout(timer);
      client.removeEventListener('abort', leave);
    }
    // What a handler throws has become an answer by now.
    if (c.error && isLate()) throw tooLate(ms);
  };
}

function tooLate(ms: number): RequestError {
  return new RequestError(504, 'TIMEOUT', `The request took longer than ${ms} ms`);
}

/** What Hono's `bearerAuth` throws, as an answer like the others. */
function fromHono(error: HTTPException): RequestError {
  const challenge = error.getResponse().headers.get('WWW-Authenticate') ?? '';
  return new RequestError(
    error.status,
    'UNAUTHORIZED',
    'Expected the header Authorization: Bearer TOKEN, with the right token',
    {
      'WWW-Authenticate': challenge,
    },
  );
}

function topKOf(text: string | undefined, numClasses: number): number {
  if (text === undefined) return Math.min(5, numClasses);
  const topK = Number(text);
  if (/^\d+$/.test(text) && topK >= 1 && topK <= numClasses) return topK;
  throw new RequestError(400, 'INVALID_REQUEST', `topK must be an integer from 1 to ${numClasses}, got '${text}'`);
}

/** The network's own names for those that servers use. */
function layerOf(name: string): string {
  return name === 'logits' ? 'fc8' : name === 'probabilities' ? 'prob' : name;
}

function metadataOf(name: string, { config }: VGGNet): object {
  const output = (output: string): object => ({ name: output, datatype: 'FP32', shape: [-1, config.numClasses] });
  return {
    name,
    versions: [MODEL_VERSION],
    platform: 'vggnet',
    inputs: [{ name: 'input', datatype: 'FP32', shape: [-1, config.inChannels, -1, -1] }],
    outputs: [output('logits'), output('probabilities')],
  };
}
