import { endOf } from './answer.js';
import type { Incoming } from './incoming.js';
import type { DrainOptions } from './lifecycle.js';
import type { ModelSource } from './model.js';
import type { ServeOptions } from './options.js';
import { createRoutes } from './routes.js';
import { Service } from './service.js';

/** Answers HTTP requests with a model. */
export interface RequestHandler {
  /** The `fetch` of an edge worker, `Deno.serve` or `Bun.serve`. Never rejects. */
  readonly fetch: (request: Request) => Promise<Response>;
  /**
   * From now on `/v2/health/ready` says 503. After `delay` new requests are answered by 503 too, and those in progress are
   * waited for, in Node until their answer was sent. The model stays the caller's.
   */
  readonly drain: (options?: DrainOptions) => Promise<void>;
}

/**
 * Serves a model over HTTP, by web standards alone:
 * - `POST /classify` with an image, or a form of several: the most likely classes (`?topK=5`)
 * - the Open Inference Protocol v2 under `/v2`, with JSON and binary tensors
 * - `GET /metrics` for Prometheus
 *
 * Requests that wait at the same time share a forward. In Node, `toNodeListener` makes it a listener of `node:http`.
 * @throws VGGNetError `INVALID_ARGUMENT` for an option out of its range
 */
export function createHandler(model: ModelSource, options: ServeOptions = {}): RequestHandler {
  const service = new Service(model, options);
  const { lifecycle } = service;
  const app = createRoutes(service, options);
  return {
    async fetch(request) {
      const incoming = request as Incoming & Request;
      lifecycle.begin();
      try {
        const response = await app.fetch(incoming, { incoming });
        const sent = incoming.closed ?? endOf(response.body);
        if (sent) void sent.then(() => lifecycle.end());
        else lifecycle.end();
        return response;
      } catch (error) {
        lifecycle.end();
        throw error;
      }
    },
    drain: (drainOptions) => lifecycle.drain(drainOptions),
  };
}
