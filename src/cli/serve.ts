import type { DeviceName, PrecisionOption } from '../model/options.js';
import type { VGGNet } from '../model.js';
import { createHandler, type RequestHandler } from '../serve/handler.js';
import { type ServeOptions, settingsOf } from '../serve/options.js';
import { checkUsage, reportFailure } from './failure.js';
import { type Listening, listen } from './listen.js';
import { chooseModel, loadModel, type PretrainedPlace, withWeights } from './model.js';
import { formatDevice, formatMs, print, printable } from './output.js';

export interface ServeFlags extends PretrainedPlace {
  readonly model?: string;
  readonly weights?: string;
  readonly device: DeviceName;
  readonly threads?: number;
  readonly memoryLimit?: number;
  readonly precision?: PrecisionOption;
  readonly layers?: readonly string[];
  readonly host: string;
  readonly port: number;
  readonly maxBatch?: number;
  readonly maxDelay?: number;
  readonly maxQueue?: number;
  readonly timeout?: number;
  readonly maxBody?: number;
  readonly maxTotalBody?: number;
  readonly maxRequests?: number;
  readonly maxOutput?: number;
  readonly maxTotalOutput?: number;
  readonly answerTimeout?: number;
  readonly maxPixels?: number;
  readonly maxDecoded?: number;
  readonly maxInputPixels?: number;
  readonly maxImages?: number;
  readonly maxConnections: number;
  readonly keepAlive: number;
  readonly drainDelay: number;
  readonly grace: number;
  readonly cors?: readonly string[];
  readonly allowedHosts?: readonly string[];
}

/** How long the head of a request may take, in ms. */
const HEADERS_TIMEOUT = 10_000;

/**
 * `vggnet serve`: answers HTTP requests until a signal. Then it is not ready any more, answers on for a while, ends when
 * the last answer was sent, and cuts what takes too long.
 */
export async function serve(flags: ServeFlags, signal: AbortSignal): Promise<number> {
  const choice = withWeights(chooseModel(flags), flags);
  const options = optionsOf(flags);
  const { timeout, answerTimeout } = checkUsage(() => settingsOf(options));
  const { device, threads, memoryLimit, precision } = flags;
  const load = async (): Promise<VGGNet> => {
    const { model, loadMs } = await loadModel(choice, { device, threads, memoryLimit, precision, signal });
    print(`${printable(model.config.name)} on ${formatDevice(model.device)}, loaded in ${formatMs(loadMs)}`);
    return model;
  };
  let loading: Promise<VGGNet> | undefined;
  const loaded = (): Promise<VGGNet> => {
    loading ??= load();
    return loading;
  };
  const dispose = async (): Promise<void> => (await loading?.catch(() => undefined))?.dispose();
  let asked = false;
  /** What is loaded, at first; when that has lost its weights, another. */
  const source = async (): Promise<VGGNet> => {
    if (asked) {
      await dispose();
      loading = undefined;
    }
    asked = true;
    return loaded();
  };
  const handler = checkUsage(() => createHandler(source, options));
  const server = await listen(handler, {
    hostname: flags.host,
    port: flags.port,
    maxConnections: flags.maxConnections,
    headersTimeout: HEADERS_TIMEOUT,
    requestTimeout: timeout,
    keepAliveTimeout: flags.keepAlive,
    answerTimeout,
  });
  try {
    print(`Listening on ${server.url}`);
    if (!isLoopback(flags.host) && options.token === undefined) {
      warn(`Whoever reaches ${server.url} can use this server: set VGGNET_TOKEN to ask for a token`);
    }
    // Now, and not with the first request; if it fails, so does the command.
    await Promise.race([loaded(), fired(signal)]);
    await fired(signal);
    return await stop(handler, server, flags);
  } finally {
    server.cut();
    await dispose();
  }
}

async function stop(handler: RequestHandler, server: Listening, { drainDelay, grace }: ServeFlags): Promise<number> {
  server.leave();
  const drained = handler.drain({ delay: drainDelay });
  if (drainDelay > 0) print(`Ending: answers go on for ${formatMs(drainDelay)}; a second signal ends it at once`);
  await new Promise((resolve) => setTimeout(resolve, drainDelay));
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), grace);
  });
  const isClean = await Promise.race([Promise.all([drained, server.close()]).then(() => true), late]);
  clearTimeout(timer);
  if (isClean) return 0;
  warn(`Requests that had not been answered ${formatMs(grace)} after the end were cut`);
  return 1;
}

function optionsOf(flags: ServeFlags): ServeOptions {
  // Not a flag: the arguments of a process can be read by all on the machine.
  const token = process.env.VGGNET_TOKEN;
  const { layers, maxBatch, maxDelay, maxQueue, timeout, maxRequests, answerTimeout, cors } = flags;
  const { maxPixels, maxInputPixels, maxImages } = flags;
  return {
    layers,
    maxBatch,
    maxDelay,
    maxQueue,
    timeout,
    maxRequests,
    answerTimeout,
    maxPixels,
    maxInputPixels,
    maxImages,
    maxBodyBytes: flags.maxBody,
    maxTotalBodyBytes: flags.maxTotalBody,
    maxOutputBytes: flags.maxOutput,
    maxTotalOutputBytes: flags.maxTotalOutput,
    maxDecodedBytes: flags.maxDecoded,
    cors,
    token,
    // A page of anyone's could be made to ask this machine; with a token it could not.
    allowedHosts: flags.allowedHosts ?? (isLoopback(flags.host) && token === undefined ? [] : undefined),
    onError: reportFailure,
  };
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(?:\.\d{1,3}){3}$/.test(host);
}

function warn(text: string): void {
  process.stderr.write(`vggnet: ${text}\n`);
}

function fired(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
