import { VGGNetError } from '../../errors.js';
import type { Team } from '../engine/engine.js';
import type { Blueprint } from '../plan/blueprint.js';
import { Peer } from './client.js';
import type { Request, Result } from './protocol.js';

/** Milliseconds that workers have to come to the end of what they compute, and to end after that when made to. */
const PATIENCE = 10_000;
const LAST_PATIENCE = 1000;
/** Milliseconds between two calls to those that may have gone to sleep just after the last one. */
const WAKE_EVERY = 5;

export interface Job {
  readonly module: WebAssembly.Module;
  readonly blueprint: Blueprint;
}

/**
 * The workers of one engine: its own, and its helpers on the same memory. They crash together: if one ends, or a kernel
 * traps in one, the others may wait for it in the middle of a layer, so all are stopped and none is used again.
 */
export class Crew {
  readonly #job: Job;
  readonly #describe: (why: string) => string;
  readonly #peers: Peer[] = [];
  #team: Team | undefined;
  #error: VGGNetError | undefined;
  #failed: (error: VGGNetError) => void = () => {};
  #stopped: Promise<boolean> | undefined;
  #ended: (known: false) => void = () => {};
  /** Rejects when the crew has crashed or was ended. */
  readonly failure: Promise<never>;

  /** @param describe what to tell the caller when a worker ended for the reason given */
  constructor(job: Job, describe: (why: string) => string) {
    this.#job = job;
    this.#describe = describe;
    this.failure = new Promise((_, reject) => {
      this.#failed = reject;
    });
    this.failure.catch(() => undefined);
    this.#spawn();
  }

  /** Why it can't be used any more. */
  get error(): VGGNetError | undefined {
    return this.#error;
  }

  /** Makes the engine, or with a `team` one on that team's memory and weights; then starts the helpers. */
  async start(team?: Team): Promise<Team | undefined> {
    const { module, blueprint } = this.#job;
    if (team) {
      this.#team = team;
      await this.ask({ type: 'attach', ...this.#job, team });
    } else {
      this.#team = (await this.ask({ type: 'create', ...this.#job })) as Team | undefined;
    }
    const made = this.#team;
    if (!made) return undefined;
    const { threads } = blueprint;
    const ready = Array.from({ length: threads - 1 }, (_, i) => {
      return this.#spawn().ask({ type: 'help', module, team: made, thread: i + 1, threads });
    });
    await Promise.all(ready);
    return made;
  }

  /** Asks the engine's worker. */
  ask(request: Request, transfer?: Transferable[], signal?: AbortSignal): Promise<Result> {
    return (this.#peers[0] as Peer).ask(request, transfer, signal);
  }

  /** Ends all workers, and lets the memory go; what waits rejects with `error`. */
  end(error: VGGNetError): void {
    this.#close(error);
    this.#team = undefined;
    this.#terminate();
    this.#ended(false);
  }

  /**
   * After a crash: true when no worker touches the memory any more. One that computes comes to its next wait first. If
   * that takes too long it is terminated; false if it is not known to have ended even then.
   */
  stopped(): Promise<boolean> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<boolean> {
    const ended = new Promise<false>((resolve) => {
      this.#ended = resolve;
    });
    const gone = Promise.all(this.#peers.map((peer) => peer.gone)).then(() => true);
    // These timers also keep the process alive for the call that waits here.
    const timer = setInterval(() => this.#wake(), WAKE_EVERY);
    const limit = setTimeout(() => this.#terminate(), PATIENCE);
    const lastLimit = setTimeout(() => this.#ended(false), PATIENCE + LAST_PATIENCE);
    try {
      return await Promise.race([gone, ended]);
    } finally {
      clearInterval(timer);
      clearTimeout(limit);
      clearTimeout(lastLimit);
      this.#terminate();
    }
  }

  #terminate(): void {
    for (const peer of this.#peers) peer.terminate();
  }

  #spawn(): Peer {
    if (this.#error) throw this.#error;
    let peer: Peer;
    try {
      peer = new Peer((why, ended) => this.#crash(why, ended));
    } catch (error) {
      if (error instanceof VGGNetError) throw error;
      throw new VGGNetError('WORKER_CRASHED', `A worker could not be started: ${String(error)}`, { cause: error });
    }
    this.#peers.push(peer);
    return peer;
  }

  #crash(why: string, ended: boolean): void {
    // An engine that failed with nobody beside it can go on: its memory is as it was, and nobody waits in it.
    if (!this.#error && (ended || this.#job.blueprint.threads > 1)) {
      this.#close(new VGGNetError('WORKER_CRASHED', this.#describe(why)));
    }
  }

  #close(error: VGGNetError): void {
    if (this.#error) return;
    this.#error = error;
    this.#failed(error);
    // First, so that no wait is left that goes on after it was told to leave.
    this.#wake();
    for (const peer of this.#peers) peer.close(error);
  }

  /** Says in the control block that the team is given up, and wakes those who sleep (assembly/team.ts). */
  #wake(): void {
    if (!this.#team) return;
    const { memory, control, bytes } = this.#team;
    const words = new Int32Array(memory.buffer, control, bytes / 4);
    Atomics.store(words, 0, 1);
    for (let word = 0; word < words.length; word++) Atomics.notify(words, word);
  }
}
