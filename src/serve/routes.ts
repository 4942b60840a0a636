import { type Context, type Handler, Hono } from 'hono';
import { bearerAuth } from 'hono/bearer-auth';
import { cors } from 'hono/cors';
import { HTTPException } from 'hono/http-exception';
import { routePath } from 'hono/route';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import type { VGGNet } from '../model.js';
import { VERSION } from '../version.js';
import { answerTo, LATER, quote, RequestError } from './failure.js';
import { isAllowedHost } from './hosts.js';
import type { Incoming } from './incoming.js';
import type { ServeOptions } from './options.js';
import type { Service } from './service.js';

/** What a route has besides its context. */
export interface Env {
  Bindings: { readonly incoming: Incoming };
}

/** The one version of a model that there is. */
const MODEL_VERSION = '1';

/** Which path answers which method, and with what status and headers anything else is answered. */
export function createRoutes(service: Service, options: ServeOptions): Hono<Env> {
  const { metrics, lifecycle, loader } = service;
  const app = new Hono<Env>();
  const failed = (c: Context, error: unknown): Response => {
    const { status, code, message, headers } = answerTo(error instanceof HTTPException ? fromHono(error) : error);
    if (code === 'UNEXPECTED') service.onError(error);
    return c.json({ error: message, code }, status as ContentfulStatusCode, headers);
  };
  app.onError((error, c) => failed(c, error));
  app.notFound((c) => failed(c, new RequestError(404, 'NOT_FOUND', `Nothing answers ${c.req.method} ${clipped(c)}`)));

  app.use(async (c, next) => {
    const start = performance.now();
    await next();
    const route = c.res.status === 404 ? 'none' : routePath(c, -1);
    metrics.answered(route, c.res.status, (performance.now() - start) / 1000);
    if (!lifecycle.isOpen) c.res.headers.set('Connection', 'close');
  });
  const { allowedHosts } = options;
  if (allowedHosts !== undefined) {
    app.use((c, next) => {
      const host = c.env.incoming.headers.get('host');
      if (isAllowedHost(host, allowedHosts)) return next();
      throw new RequestError(403, 'HOST_NOT_ALLOWED', `The name ${quote(host)} is not served here (allowedHosts)`);
    });
  }
  if (options.cors !== undefined) app.use(cors({ origin: options.cors as string | string[] }));

  const others: string[][] = [];
  const on = (method: 'GET' | 'POST', path: string, ...handlers: Handler<Env>[]): void => {
    app.on([method], [path], ...handlers);
    others.push([path, method === 'GET' ? 'GET, HEAD' : 'POST']);
  };
  on('GET', '/v2/health/live', (c) => c.json({ live: true }));
  /** The model, if it is there. What does not compute does not wait for it, but has it loaded. */
  const loaded = async (): Promise<VGGNet> => {
    const loading = loader.load();
    if (loader.isLoaded()) return loading;
    // `onError` is told of it.
    loading.catch(() => {});
    throw new RequestError(503, 'NOT_LOADED', 'The model is being loaded', LATER);
  };
  on('GET', '/v2/health/ready', async (c) => {
    if (!lifecycle.isOpen) return c.json({ ready: false, code: 'DRAINING' }, 503);
    await loaded();
    return c.json({ ready: true });
  });
  app.use((_, next) => {
    if (!lifecycle.isClosed) return next();
    throw new RequestError(503, 'DRAINING', 'The server is shutting down', LATER);
  });

  if (options.token !== undefined) app.use(bearerAuth({ token: options.token }));
  on('GET', '/metrics', (c) =>
    c.text(metrics.text(), 200, { 'Content-Type': 'text/plain; version=0.0.4; charset=utf-8' }),
  );
  on('POST', '/classify', (c) => service.classify(c.env.incoming, c.req.query('topK')));

  const nameOf = (network: VGGNet): string => options.name ?? network.config.name;
  const named = async (c: Context<Env>, loading: Promise<VGGNet>): Promise<VGGNet> => {
    const network = await loading;
    const { name, version = MODEL_VERSION } = c.req.param() as { name?: string; version?: string };
    if (name === nameOf(network) && version === MODEL_VERSION) return network;
    throw new RequestError(
      404,
      'UNKNOWN_MODEL',
      `The model is ${nameOf(network)}, version ${MODEL_VERSION}, got ${quote(name)}`,
    );
  };
  on('GET', '/v2', (c) => c.json({ name: 'vggnet', version: VERSION, extensions: ['binary_tensor_data'] }));
  for (const path of ['/v2/models/:name', '/v2/models/:name/versions/:version']) {
    on('GET', path, async (c) => {
      const network = await named(c, loaded());
      return c.json(metadataOf(nameOf(network), network, options.layers ?? []));
    });
    on('GET', `${path}/ready`, async (c) => {
      await named(c, loaded());
      return c.json({ ready: true });
    });
    on('POST', `${path}/infer`, (c) =>
      service.infer(c.env.incoming, async () => {
        const network = await named(c, loader.load());
        return { network, model_name: nameOf(network), model_version: MODEL_VERSION };
      }),
    );
  }
  for (const [path, allow] of others as [string, string][]) {
    app.all(path, (c) => {
      throw new RequestError(405, 'METHOD_NOT_ALLOWED', `${clipped(c)} answers ${allow}, got ${c.req.method}`, {
        Allow: allow,
      });
    });
  }
  return app;
}

function clipped(c: Context): string {
  return quote(c.req.path).slice(1, -1);
}

/** What Hono's `bearerAuth` throws, as an answer like the others. */
function fromHono(error: HTTPException): RequestError {
  const challenge = error.getResponse().headers.get('WWW-Authenticate') ?? '';
  return new RequestError(
    error.status,
    'UNAUTHORIZED',
    'Expected the header Authorization: Bearer TOKEN, with the right token',
    { 'WWW-Authenticate': challenge },
  );
}

function metadataOf(name: string, { config }: VGGNet, layers: readonly string[]): object {
  const output = (output: string): object => ({ name: output, datatype: 'FP32', shape: [-1, config.numClasses] });
  return {
    name,
    versions: [MODEL_VERSION],
    platform: 'vggnet',
    inputs: [{ name: 'input', datatype: 'FP32', shape: [-1, config.inChannels, -1, -1] }],
    outputs: [output('logits'), output('probabilities'), ...layers.map((layer) => ({ name: layer, datatype: 'FP32' }))],
  };
}
