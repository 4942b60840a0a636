import { abortable } from '../abort.js';
import type { Executable, GPUExecutable, ParameterStream, Program, RunOptions, StepTime } from '../backend.js';
import { disposedError, throwIfAborted, VGGNetError } from '../errors.js';
import type { GPUTensor } from '../gpu-tensor.js';
import { SerialQueue } from '../serial-queue.js';
import { Tensor } from '../tensor.js';
import type { DeviceSource } from './device.js';
import type { OutputLocation } from './readback.js';
import { Session } from './session.js';
import { upload } from './upload.js';

export interface ExecutableOptions {
  readonly source: DeviceSource;
  readonly program: Program;
  /** Reads the parameters again, for the device that replaces a lost one. */
  readonly reopen: (() => ParameterStream) | undefined;
}

/**
 * Queues runs for a session, and recreates the session on another device when its device is lost. It keeps a copy of
 * the running statistics that training has changed, so that they outlive the device.
 */
export class WebGPUExecutable implements Executable, GPUExecutable {
  readonly #options: ExecutableOptions;
  readonly #ended: Promise<never>;
  #end: (error: VGGNetError) => void = () => {};
  #session: Session | undefined;
  #statistics: ReadonlyMap<string, Float32Array> | undefined;
  #disposed = false;
  readonly #queue = new SerialQueue();

  private constructor(options: ExecutableOptions) {
    this.#options = options;
    this.#ended = new Promise((_, reject) => {
      this.#end = reject;
    });
    this.#ended.catch(() => undefined);
  }

  /** @throws VGGNetError `BACKEND_UNAVAILABLE`, `OUT_OF_MEMORY`, `DEVICE_LOST`, `GPU_ERROR`, `ABORTED`; the stream's */
  static async compile(
    options: ExecutableOptions,
    parameters: ParameterStream,
    signal?: AbortSignal,
  ): Promise<WebGPUExecutable> {
    const executable = new WebGPUExecutable(options);
    executable.#session = await executable.#open(parameters, signal);
    return executable;
  }

  async #open(parameters: ParameterStream, signal?: AbortSignal): Promise<Session> {
    const { source, program } = this.#options;
    throwIfAborted(signal);
    const context = await source.acquire();
    try {
      const session = await Session.create(context, program, parameters, signal);
      if (this.#statistics) await session.restore(this.#statistics);
      return session;
    } catch (error) {
      await source.release(context);
      throw error;
    }
  }

  async run(input: Tensor, options: RunOptions): Promise<Tensor[]> {
    return (await this.runOn(input, options, 'cpu')) as Tensor[];
  }

  /** `run` with an input on the GPU, or with outputs left there, which the caller destroys. */
  runOn(input: Tensor | GPUTensor, options: RunOptions, location: OutputLocation): Promise<(Tensor | GPUTensor)[]> {
    return this.#run(input, options, async (session, own) => {
      const results = await session.run(own, options, location);
      if (options.mode === 'train') await this.#keepStatistics(session);
      return results;
    });
  }

  profile(input: Tensor, options: RunOptions): Promise<StepTime[]> {
    return this.#run(input, options, async (session, own) => {
      const times = await session.profile(own, options);
      if (options.mode === 'train') await this.#keepStatistics(session);
      return times;
    });
  }

  /** Waits for earlier runs, so that it never reads the statistics of half a run. */
  readParameter(name: string): Promise<Float32Array> {
    return this.#enqueue((session) => session.readParameter(name));
  }

  get gpu(): GPUExecutable {
    return this;
  }

  device(): Promise<GPUDevice> {
    return this.#enqueue(async ({ context }) => context.device);
  }

  upload(tensor: Tensor): Promise<GPUTensor> {
    const own = new Tensor(tensor.data.slice(), tensor.shape);
    return this.#enqueue(({ context }) => upload(context, own));
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#end(disposedError());
    this.#close();
  }

  #close(): void {
    const session = this.#session;
    this.#session = undefined;
    if (!session) return;
    session.destroy();
    this.#options.source.release(session.context).catch(() => undefined);
  }

  async #run<T>(
    input: Tensor | GPUTensor,
    { signal }: RunOptions,
    work: (session: Session, input: Tensor | GPUTensor) => Promise<T>,
  ): Promise<T> {
    throwIfAborted(signal);
    const own = input instanceof Tensor ? new Tensor(input.data.slice(), input.shape) : input;
    const result = this.#enqueue((session) => {
      throwIfAborted(signal);
      return work(session, own);
    });
    return abortable(result, signal);
  }

  #enqueue<T>(work: (session: Session) => Promise<T>): Promise<T> {
    const result = this.#queue.run(async () => work(await this.#live()));
    return Promise.race([result, this.#ended]);
  }

  async #keepStatistics(session: Session): Promise<void> {
    const statistics = await session.statistics();
    if (statistics.size > 0) this.#statistics = statistics;
  }

  /** The session, recreated if its device was lost. */
  async #live(): Promise<Session> {
    this.#checkLive();
    const lost = this.#session?.context.lostError;
    if (this.#session && !lost) return this.#session;
    const { source, reopen } = this.#options;
    if (!source.renewable) {
      throw new VGGNetError(
        'DEVICE_LOST',
        `${lost?.message ?? 'The GPU device was lost'}. It was passed as gpuDevice: create another device, and the model again`,
      );
    }
    if (!reopen) {
      throw new VGGNetError(
        'DEVICE_LOST',
        `${lost?.message ?? 'The GPU device was lost'}. The weights came as bytes or a stream, which are not kept: create the model again`,
      );
    }
    this.#close();
    const session = await this.#open(reopen());
    if (this.#disposed) {
      session.destroy();
      await source.release(session.context);
      this.#checkLive();
    }
    this.#session = session;
    return session;
  }

  #checkLive(): void {
    if (this.#disposed) throw disposedError();
  }
}
