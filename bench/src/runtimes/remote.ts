import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { ON_CPU } from '../gpu.js';
import type { Request } from '../host.js';
import { type Profile, type SystemInfo, Unavailable } from '../job.js';
import type { KernelSamples } from '../kernels/cases.js';
import type { Answer } from '../protocol.js';
import type { Opened, RuntimeInfo, Session } from '../session.js';
import { hasGpu } from './adapter.js';

/* What sessions have in common, whether the host at the other end is in a process or in a page. */

/** The way to a host (host.ts). One request at a time. */
export interface Connection {
  /** @throws Unavailable or Error with the host's reason; Error if it took too long, died or was interrupted */
  ask(request: Request): Promise<unknown>;
  peakMemory(): Promise<number | undefined>;
  /** Never rejects. */
  close(): Promise<void>;
}

/** The result in a host's answer, or the error. */
export function resultOf(answer: Answer): unknown {
  if (!('error' in answer)) return answer.result;
  throw answer.unavailable ? new Unavailable(answer.error) : new Error(answer.error);
}

/** Firefox does not name its adapter; where there is no GPU it can only be one that computes on the CPU. */
function adapterTold(system: SystemInfo): SystemInfo {
  const { adapter } = system;
  if (adapter === undefined || adapter.endsWith(ON_CPU) || hasGpu()) return system;
  return { ...system, adapter: `${adapter}${ON_CPU}` };
}

export class RemoteSession implements Session {
  readonly opened: Opened;
  readonly #connection: Connection;
  readonly #batch: number;

  constructor(connection: Connection, opened: Opened, batch: number) {
    this.#connection = connection;
    this.#batch = batch;
    this.opened = { ...opened, system: adapterTold(opened.system) };
  }

  async withBatch(batch: number): Promise<Session> {
    const ms = (await this.#connection.ask({ call: 'first', batch })) as number;
    return new RemoteSession(this.#connection, { ...this.opened, firstMs: this.opened.loadMs + ms }, batch);
  }

  async sample(): Promise<number> {
    return (await this.#connection.ask({ call: 'sample', batch: this.#batch })) as number;
  }

  async logits(): Promise<Float32Array> {
    // NaN has no JSON and comes as null.
    const values = (await this.#connection.ask({ call: 'logits', batch: this.#batch })) as (number | null)[];
    return Float32Array.from(values, (value) => value ?? Number.NaN);
  }

  async profile(): Promise<Profile> {
    const profile = (await this.#connection.ask({ call: 'profile', batch: this.#batch })) as Profile | undefined;
    if (!profile) throw new Unavailable('this system does not tell the times of its layers');
    return profile;
  }

  async kernel(name: string, samples: number): Promise<KernelSamples> {
    return (await this.#connection.ask({ call: 'kernel', name, samples })) as KernelSamples;
  }

  peakMemory(): Promise<number | undefined> {
    return this.#connection.peakMemory();
  }

  close(): Promise<void> {
    return this.#connection.close();
  }
}

/** A runtime that is an executable. It is asked for its version once. */
export abstract class ExecutableRuntime {
  readonly name: string;
  #info: Promise<RuntimeInfo> | undefined;

  constructor(name: string) {
    this.name = name;
  }

  /** Where it is. @throws Unavailable */
  protected abstract path(): string;

  find(): Promise<RuntimeInfo> {
    this.#info ??= (async () => askVersion(this.name, this.path()))();
    return this.#info;
  }
}

/** Asks an executable for its version. @throws Unavailable if it does not tell */
async function askVersion(name: string, path: string): Promise<RuntimeInfo> {
  try {
    const { stdout } = await promisify(execFile)(path, ['--version'], { timeout: 20_000 });
    const version = stdout.match(/\d+\.\d+\S*/)?.[0];
    if (!version) throw new Error(`'--version' says ${JSON.stringify(stdout.slice(0, 100))}`);
    return { name, version };
  } catch (error) {
    throw new Unavailable(`${name} does not start: ${(error as Error).message}`);
  }
}
