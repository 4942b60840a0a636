import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Request } from '../host.js';
import { type Job, type JobFiles, Unavailable } from '../job.js';
import type { Answer } from '../protocol.js';
import type { Opened, OpenOptions, Runtime, Session } from '../session.js';
import { bundleForBrowsers } from './bundle.js';
import { largestPeak } from './memory.js';
import { type Connection, ExecutableRuntime, RemoteSession, resultOf } from './remote.js';
import { type Served, serve, urlPath } from './serve.js';

/** Where the server has the measuring page. */
const PAGE = '/bench/src/runtimes/host.html';
/** A browser that does not start in this time will not. */
const LAUNCH_MS = 30_000;

/** One browser with one page, whatever drives it: browsers.ts has the ones that the suite knows. */
export interface DrivenPage {
  open(url: string): Promise<void>;
  /** The value of an expression in the page, a string; a promise is waited for. Rejects if the page dies. */
  evaluate(expression: string): Promise<string>;
  /** The processes of this browser, as far as they are known. */
  processIds(): Promise<readonly number[]>;
  close(): Promise<void>;
}

export interface LaunchOptions {
  readonly path: string;
  readonly flags: readonly string[];
  /** The page is to compute by WebGPU. */
  readonly webgpu: boolean;
  readonly launchMs: number;
  /** The longest that an expression may take. */
  readonly timeoutMs: number;
}

export interface BrowserOptions {
  readonly name: string;
  /** Commands that start it, looked for in PATH. */
  readonly commands: readonly string[];
  /** The environment variable that may give its path instead. */
  readonly variable: string;
  /** Debian's package that brings it, for messages. */
  readonly debian: string;
  readonly benchFolder: string;
  /** @throws Unavailable if the package that drives it is not installed */
  readonly launch: (options: LaunchOptions) => Promise<DrivenPage>;
}

/** A browser as a runtime: for every system a browser of its own, without a window, with a profile that is thrown away. */
export class BrowserRuntime extends ExecutableRuntime implements Runtime {
  readonly #options: BrowserOptions;

  constructor(options: BrowserOptions) {
    super(options.name);
    this.#options = options;
  }

  protected path(): string {
    const { commands, variable, debian } = this.#options;
    const given = process.env[variable];
    const folders = (process.env.PATH ?? '').split(delimiter).filter(Boolean);
    const paths = given ? [given] : folders.flatMap((folder) => commands.map((command) => join(folder, command)));
    const path = paths.find(isExecutable);
    if (path) return path;
    throw new Unavailable(
      given
        ? `not installed: ${variable} names ${given}, which can't be run`
        : `not installed: no ${commands.join(' or ')} in PATH, and ${variable} is not set (Debian: apt-get install ${debian})`,
    );
  }

  async open(job: Job, options: OpenOptions): Promise<Session> {
    await this.find();
    const { benchFolder, launch } = this.#options;
    const { flags, timeoutMs } = options;
    await bundleForBrowsers(benchFolder);
    options.signal.throwIfAborted();
    const server = await serve(join(benchFolder, '..'));
    let page: DrivenPage;
    try {
      page = await launch({
        path: this.path(),
        flags,
        webgpu: job.backend === 'webgpu',
        launchMs: LAUNCH_MS,
        timeoutMs,
      });
    } catch (error) {
      await server.close();
      throw error instanceof Unavailable ? error : new Error(`${this.name} does not start: ${firstLine(error)}`);
    }
    const connection = new PageConnection(page, server, this.name, options);
    try {
      await connection.limited('loading the page', page.open(server.origin + PAGE));
      const files = servedFiles(join(benchFolder, '..'), server.origin, job.files);
      const opened = await connection.ask({ call: 'open', job: { ...job, files } });
      return new RemoteSession(connection, opened as Opened, job.batch);
    } catch (error) {
      await connection.close();
      throw error;
    }
  }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** The job's files as the page sees them. */
function servedFiles(repository: string, origin: string, files: JobFiles): JobFiles {
  const url = (file: string): string =>
    origin + urlPath(repository, file.startsWith('file:') ? fileURLToPath(file) : file);
  return {
    library: url(files.library),
    safetensors: url(files.safetensors),
    onnx: url(files.onnx),
    pth: url(files.pth),
    kernels: url(files.kernels),
    limits: url(files.limits),
  };
}

/** A page with the server that it reads from, and the limits of what is asked of it. */
class PageConnection implements Connection {
  readonly #page: DrivenPage;
  readonly #server: Served;
  readonly #name: string;
  readonly #options: OpenOptions;
  #closed: Promise<void> | undefined;

  constructor(page: DrivenPage, server: Served, name: string, options: OpenOptions) {
    this.#page = page;
    this.#server = server;
    this.#name = name;
    this.#options = options;
  }

  async ask(request: Request): Promise<unknown> {
    const expression = `vggnetBench(${JSON.stringify(JSON.stringify(request))})`;
    return resultOf(JSON.parse(await this.limited(`'${request.call}'`, this.#page.evaluate(expression))) as Answer);
  }

  peakMemory(): Promise<number | undefined> {
    return this.limited('memory', this.#page.processIds().then(largestPeak));
  }

  /** Waits for something of the page. If that takes too long, or the user interrupts it, the browser is closed. */
  async limited<T>(what: string, work: Promise<T>): Promise<T> {
    const { signal, timeoutMs } = this.#options;
    if (this.#closed) throw new Error('closed');
    let stop: (error: Error) => void = () => undefined;
    const stopped = new Promise<never>((_, reject) => {
      stop = reject;
    });
    const interrupt = (): void => stop(new Error('interrupted'));
    const timer = setTimeout(
      () => stop(new Error(`${what} took over ${timeoutMs / 1000} s in ${this.#name}`)),
      timeoutMs,
    );
    signal.addEventListener('abort', interrupt, { once: true });
    if (signal.aborted) interrupt();
    // Whichever is late still rejects, when the browser closes.
    work.catch(() => undefined);
    stopped.catch(() => void this.close());
    try {
      return await Promise.race([work, stopped]);
    } catch (error) {
      throw new Error(firstLine(error), { cause: error });
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', interrupt);
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await this.#page.close().catch(() => undefined);
    await this.#server.close();
  }
}

/** What drives a browser adds its call log to messages; the first line says it. */
function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.split('\n')[0] as string;
}
