import type { AddressInfo } from 'node:net';
import { serve as listen } from '@hono/node-server';
import { messageOf, VGGNetError } from '../errors.js';
import type { DeviceName } from '../model/options.js';
import type { VGGNet } from '../model.js';
import { createHandler, type RequestHandler } from '../serve/handler.js';
import type { ServeOptions } from '../serve/options.js';
import { checkUsage, reportFailure } from './failure.js';
import { chooseModel, loadModel, type PretrainedPlace, withWeights } from './model.js';
import { formatDevice, formatMs, print, printable } from './output.js';

export interface ServeFlags extends PretrainedPlace {
  readonly model?: string;
  readonly weights?: string;
  readonly device: DeviceName;
  readonly host: string;
  readonly port: number;
  readonly maxBatch?: number;
  readonly maxDelay?: number;
  readonly maxQueue?: number;
  readonly timeout?: number;
  readonly maxBody?: number;
  readonly maxPixels?: number;
  readonly cors?: readonly string[];
}

/** `vggnet serve`: answers HTTP requests until a signal; then takes no more, and ends when the last is answered. */
export async function serve(flags: ServeFlags, signal: AbortSignal): Promise<number> {
  const choice = withWeights(chooseModel(flags), flags);
  const options = optionsOf(flags);
  const load = (): ReturnType<typeof loadModel> => loadModel(choice, { device: flags.device, signal });
  const { loadMs, ...loaded } = await load();
  let { model } = loaded;
  let asked = false;
  /** What is loaded, at first; when that has lost its weights, another. */
  const source = async (): Promise<VGGNet> => {
    if (asked) {
      model.dispose();
      model = (await load()).model;
    }
    asked = true;
    return model;
  };
  try {
    const handler = checkUsage(() => createHandler(source, options));
    const server = await start(handler, flags.host, flags.port);
    const { name } = model.config;
    print(`${printable(name)} on ${formatDevice(model.device)}, loaded in ${formatMs(loadMs)}`);
    print(`Listening on ${server.url}`);
    await fired(signal);
    await handler.drain();
    await server.close();
    return 0;
  } finally {
    model.dispose();
  }
}

function optionsOf({ maxBatch, maxDelay, maxQueue, timeout, maxBody, maxPixels, cors }: ServeFlags): ServeOptions {
  // Not a flag: the arguments of a process can be read by all on the machine.
  const token = process.env.VGGNET_TOKEN;
  return {
    maxBatch,
    maxDelay,
    maxQueue,
    timeout,
    maxBodyBytes: maxBody,
    maxPixels,
    cors,
    token,
    onError: reportFailure,
  };
}

function fired(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

interface Listening {
  readonly url: string;
  /** Takes no more connections, and resolves when those that are open have ended. */
  close(): Promise<void>;
}

/** What Deno and Bun have of their own. */
interface Runtimes {
  readonly Deno?: {
    serve(
      options: { hostname: string; port: number; onListen: () => void },
      fetch: RequestHandler['fetch'],
    ): { readonly addr: { readonly hostname: string; readonly port: number }; shutdown(): Promise<void> };
  };
  readonly Bun?: {
    serve(options: { hostname: string; port: number; fetch: RequestHandler['fetch'] }): {
      readonly url: URL;
      stop(): Promise<void>;
    };
  };
}

/** @throws VGGNetError `IO` if the port cannot be had */
async function start({ fetch }: RequestHandler, hostname: string, port: number): Promise<Listening> {
  const { Deno, Bun } = globalThis as Runtimes;
  try {
    if (Deno) {
      const server = Deno.serve({ hostname, port, onListen() {} }, fetch);
      return { url: urlOf(server.addr.hostname, server.addr.port), close: () => server.shutdown() };
    }
    if (Bun) {
      const server = Bun.serve({ hostname, port, fetch });
      return { url: server.url.href, close: () => server.stop() };
    }
    return await startInNode(fetch, hostname, port);
  } catch (cause) {
    const reason = messageOf(cause);
    throw new VGGNetError('IO', `Cannot listen on ${urlOf(hostname, port)}: ${reason}`, { cause });
  }
}

function startInNode(fetch: RequestHandler['fetch'], hostname: string, port: number): Promise<Listening> {
  return new Promise((resolve, reject) => {
    const server = listen({ fetch, hostname, port }, ({ address, port }: AddressInfo) => {
      const close = (): Promise<void> => new Promise((done) => server.close(() => done()));
      resolve({ url: urlOf(address, port), close });
    });
    server.on('error', reject);
  });
}

function urlOf(hostname: string, port: number): string {
  return `http://${hostname.includes(':') ? `[${hostname}]` : hostname}:${port}/`;
}
