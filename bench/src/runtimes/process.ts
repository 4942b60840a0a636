import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Request } from '../host.js';
import type { Job } from '../job.js';
import { ANSWER, type Answer } from '../protocol.js';
import type { Opened, OpenOptions, Runtime, Session } from '../session.js';
import { softwareDriver } from './adapter.js';
import { type Connection, ExecutableRuntime, RemoteSession, resultOf } from './remote.js';

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
export class ProcessRuntime extends ExecutableRuntime implements Runtime {
  readonly #options: ProcessRuntimeOptions;

  constructor(options: ProcessRuntimeOptions) {
    super(options.name);
    this.#options = options;
  }

  protected path(): string {
    return this.#options.find();
  }

  async open(job: Job, options: OpenOptions): Promise<Session> {
    await this.find();
    const { args = [], env, script } = this.#options;
    const child = spawn(this.path(), [...args, ...options.flags, script], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...env, ...(job.backend === 'webgpu' && softwareDriver()) },
    });
    const connection = new ProcessConnection(child, this.name, options);
    try {
      const baseMemory = await connection.peakMemory();
      const opened = (await connection.ask({ call: 'open', job })) as Opened;
      return new RemoteSession(connection, { ...opened, baseMemory }, job.batch);
    } catch (error) {
      await connection.close();
      throw error;
    }
  }
}

/** One process and the question that is open with it. */
class ProcessConnection implements Connection {
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

  async peakMemory(): Promise<number | undefined> {
    return (await this.ask({ call: 'memory' })) as number | undefined;
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
    try {
      pending?.resolve(resultOf(answer));
    } catch (error) {
      pending?.reject(error as Error);
    }
  }

  #end(error: Error): void {
    this.#ended ??= error;
    this.#pending?.reject(error);
    this.#pending = undefined;
  }
}
