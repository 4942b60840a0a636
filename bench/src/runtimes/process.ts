import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import type { Request } from '../host.js';
import { type Job, type Profile, Unavailable } from '../job.js';
import type { KernelSamples } from '../kernels/cases.js';
import { ANSWER, type Answer } from '../protocol.js';
import type { Opened, OpenOptions, Runtime, RuntimeInfo, Session } from '../session.js';

export interface ProcessRuntimeOptions {
  readonly name: string;
  /** The executable's path. @throws Unavailable */
  readonly find: () => string;
  /** Before the flags and the script. */
  readonly args?: readonly string[];
  /** Environment variables beside the parent's. */
  readonly env?: Readonly<Record<string, string>>;
  /** The script: worker.ts, bundled. */
  readonly script: string;
}

/** The last of what a process wrote to stderr, for messages. */
const STDERR_KEPT = 2_000;

/** A runtime that runs the worker script as a process: Node, Deno, Bun. */
export class ProcessRuntime implements Runtime {
  readonly name: string;
  readonly #options: ProcessRuntimeOptions;
  #info: Promise<RuntimeInfo> | undefined;

  constructor(options: ProcessRuntimeOptions) {
    this.name = options.name;
    this.#options = options;
  }

  find(): Promise<RuntimeInfo> {
    this.#info ??= this.#ask();
    return this.#info;
  }

  async #ask(): Promise<RuntimeInfo> {
    const path = this.#options.find();
    try {
      const { stdout } = await promisify(execFile)(path, ['--version'], { timeout: 20_000 });
      const version = stdout.match(/\d+\.\d+\.\d+\S*/)?.[0];
      if (!version) throw new Error(`'--version' says ${JSON.stringify(stdout.slice(0, 100))}`);
      return { name: this.name, version };
    } catch (error) {
      throw new Unavailable(`${this.name} does not start: ${(error as Error).message}`);
    }
  }

  async open(job: Job, options: OpenOptions): Promise<Session> {
    await this.find();
    const { args = [], env, script, find } = this.#options;
    const child = spawn(find(), [...args, ...options.flags, script], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    const connection = new Connection(child, this.name, options);
    try {
      return new ProcessSession(connection, (await connection.ask({ call: 'open', job })) as Opened);
    } catch (error) {
      await connection.close();
      throw error;
    }
  }
}

class ProcessSession implements Session {
  readonly opened: Opened;
  readonly #connection: Connection;

  constructor(connection: Connection, opened: Opened) {
    this.#connection = connection;
    this.opened = opened;
  }

  async sample(): Promise<number> {
    return (await this.#connection.ask({ call: 'sample' })) as number;
  }

  async logits(): Promise<Float32Array> {
    // NaN has no JSON and comes as null.
    const values = (await this.#connection.ask({ call: 'logits' })) as (number | null)[];
    return Float32Array.from(values, (value) => value ?? Number.NaN);
  }

  async profile(): Promise<Profile> {
    const profile = (await this.#connection.ask({ call: 'profile' })) as Profile | undefined;
    if (!profile) throw new Unavailable('this version has no model.profile()');
    return profile;
  }

  async kernel(name: string, samples: number): Promise<KernelSamples> {
    return (await this.#connection.ask({ call: 'kernel', name, samples })) as KernelSamples;
  }

  async peakMemory(): Promise<number | undefined> {
    return (await this.#connection.ask({ call: 'memory' })) as number | undefined;
  }

  close(): Promise<void> {
    return this.#connection.close();
  }
}

/** One process and the question that is open with it. */
class Connection {
  readonly #child: ChildProcess;
  readonly #name: string;
  readonly #options: OpenOptions;
  readonly #exited: Promise<void>;
  #pending: { resolve: (result: unknown) => void; reject: (error: Error) => void } | undefined;
  #ended: Error | undefined;
  #stderr = '';

  constructor(child: ChildProcess, name: string, options: OpenOptions) {
    this.#child = child;
    this.#name = name;
    this.#options = options;
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => this.#receive(line));
    child.stderr?.on('data', (data: Buffer) => {
      this.#stderr = (this.#stderr + data.toString()).slice(-STDERR_KEPT);
    });
    // A write after the process has died fails; its exit says why.
    child.stdin?.on('error', () => undefined);
    this.#exited = new Promise((resolve) => {
      child.on('error', (error) => {
        this.#end(new Error(`${name} could not be started: ${error.message}`));
        resolve();
      });
      child.on('close', (code, signal) => {
        const last = this.#stderr.trim().split('\n').slice(-3).join(' | ');
        const how = signal ? `was ended by ${signal}` : `ended with exit code ${code}`;
        this.#end(new Error(`the ${name} process ${how}${last ? `: ${last}` : ''}`));
        resolve();
      });
    });
  }

  async ask(request: Request | { readonly call: 'memory' }): Promise<unknown> {
    const { signal, timeoutMs } = this.#options;
    if (this.#ended) throw this.#ended;
    signal.throwIfAborted();
    const stop = (why: Error): void => {
      this.#end(why);
      this.#child.kill('SIGKILL');
    };
    const interrupt = (): void => stop(new Error('interrupted'));
    const timer = setTimeout(
      () => stop(new Error(`'${request.call}' took over ${timeoutMs / 1000} s in ${this.#name}`)),
      timeoutMs,
    );
    signal.addEventListener('abort', interrupt, { once: true });
    try {
      return await new Promise((resolve, reject) => {
        this.#pending = { resolve, reject };
        this.#child.stdin?.write(`${JSON.stringify(request)}\n`);
      });
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', interrupt);
    }
  }

  /** Asks the process to end, and makes it. */
  async close(): Promise<void> {
    this.#end(new Error('closed'));
    this.#child.stdin?.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 5_000);
    await this.#exited;
    clearTimeout(timer);
  }

  #receive(line: string): void {
    if (!line.startsWith(ANSWER)) return;
    const answer = JSON.parse(line.slice(ANSWER.length)) as Answer;
    const pending = this.#pending;
    this.#pending = undefined;
    if ('error' in answer)
      pending?.reject(answer.unavailable ? new Unavailable(answer.error) : new Error(answer.error));
    else pending?.resolve(answer.result);
  }

  #end(error: Error): void {
    this.#ended ??= error;
    this.#pending?.reject(error);
    this.#pending = undefined;
  }
}
