import { messageOf, VGGNetError } from '../errors.js';
import type { Capabilities, Limits } from './kernel.js';
import { Pipelines } from './pipelines.js';
import { within } from './wait.js';

/** Milliseconds that a forward, an upload or a compilation may take before the device counts as lost. */
const MAX_WAIT_MS = 600_000;
/** Bytes of written data that may wait in the queue, so that weights do not pile up in memory. */
const MAX_PENDING = 32 * 2 ** 20;

/** With fewer pending bytes `settle` does not flush. */
const MIN_FLUSH = 2 ** 20;

export interface ContextOptions {
  /** False for the caller's device, which `destroy` leaves alive. */
  readonly owned: boolean;
  /** Replace the device's limits, for tests. */
  readonly limits?: Partial<Limits> | undefined;
}

/** A device with its pipelines, its error scopes, and the list of its buffers. */
export class Context {
  readonly device: GPUDevice;
  readonly capabilities: Capabilities;
  readonly timestamps: boolean;
  readonly pipelines: Pipelines;
  readonly #owned: boolean;
  readonly #buffers = new Set<GPUBuffer>();
  readonly #lost: Promise<never>;
  #lostError: VGGNetError | undefined;
  #pending = 0;
  #destroyed = false;

  constructor(device: GPUDevice, { owned, limits }: ContextOptions) {
    this.device = device;
    this.#owned = owned;
    const { maxBufferSize, maxStorageBufferBindingSize, maxTextureDimension2D } = device.limits;
    this.capabilities = {
      limits: { maxBufferSize, maxStorageBufferBindingSize, maxTextureDimension2D, ...limits },
      f16: device.features.has('shader-f16'),
      // Narrow subgroups, as software drivers have them, reduce more slowly than workgroup memory does.
      subgroups: device.features.has('subgroups' as GPUFeatureName) && (device.adapterInfo?.subgroupMinSize ?? 0) >= 16,
    };
    this.timestamps = device.features.has('timestamp-query');
    this.pipelines = Pipelines.of(device);
    this.#lost = device.lost.then((info) => {
      const why = info.message || info.reason || 'the browser gave no reason';
      this.#lostError = new VGGNetError('DEVICE_LOST', `The GPU device was lost: ${why}`);
      throw this.#lostError;
    });
    // `wait` observes it.
    this.#lost.catch(() => undefined);
  }

  /** Why the device was lost; undefined if it was not. */
  get lostError(): VGGNetError | undefined {
    return this.#lostError;
  }

  /**
   * Waits until an earlier loss would have been reported.
   * @throws VGGNetError `DEVICE_LOST`
   */
  async ready(): Promise<void> {
    await this.#settleLoss(0);
    if (this.#lostError) throw this.#lostError;
  }

  /** Buffers that are alive, and their bytes together. */
  get allocated(): { buffers: number; bytes: number } {
    let bytes = 0;
    for (const { size } of this.#buffers) bytes += size;
    return { buffers: this.#buffers.size, bytes };
  }

  /**
   * Waits for the GPU.
   * @throws VGGNetError `DEVICE_LOST` as soon as the device is lost, or after ten minutes; `GPU_ERROR`
   */
  async wait<T>(work: Promise<T>, what: string): Promise<T> {
    const late = (): Error => new VGGNetError('DEVICE_LOST', `${what}: the GPU has not answered for ten minutes`);
    try {
      const result = await within(Promise.race([work, this.#lost]), MAX_WAIT_MS, late);
      if (this.#lostError) throw this.#lostError;
      return result;
    } catch (error) {
      if (error instanceof VGGNetError) throw error;
      // A failure due to a loss may be reported before the loss: in Firefox by a tenth of a second.
      await this.#settleLoss(1000);
      const text = messageOf(error);
      throw this.#lostError ?? new VGGNetError('GPU_ERROR', `${what}: ${text}`, { cause: error });
    }
  }

  async #settleLoss(ms: number): Promise<void> {
    const soon = new Promise<void>((resolve) => setTimeout(resolve, ms));
    await Promise.race([soon, this.#lost.catch(() => undefined)]);
  }

  /**
   * Does work that the GPU may refuse. Returns its result, and a promise that rejects if the GPU refused it.
   * @param what names the layer, for the message
   */
  attempt<T>(what: string, work: () => T): { readonly result: T; readonly checked: Promise<void> } {
    const { device } = this;
    for (const filter of ['internal', 'out-of-memory', 'validation'] as const) device.pushErrorScope(filter);
    let result: T;
    const pops: Promise<GPUError | null>[] = [];
    try {
      result = work();
    } finally {
      for (let i = 0; i < 3; i++) pops.push(device.popErrorScope());
      // After a throw nobody awaits them.
      for (const pop of pops) pop.catch(() => undefined);
    }
    const checked = this.wait(Promise.all(pops), what).then(([validation, memory, internal]) => {
      if (memory) throw new VGGNetError('OUT_OF_MEMORY', `${what}: the GPU is out of memory: ${memory.message}`);
      const error = validation ?? internal;
      if (error) throw new VGGNetError('GPU_ERROR', `${what}: ${error.message}`);
    });
    checked.catch(() => undefined);
    return { result, checked };
  }

  /**
   * Records commands and submits them.
   * @param what for the message; default the label
   * @throws VGGNetError as `attempt`
   */
  submit(label: string, record: (encoder: GPUCommandEncoder) => void, what: string = label): Promise<void> {
    const { checked } = this.attempt(what, () => {
      const encoder = this.device.createCommandEncoder({ label });
      record(encoder);
      this.device.queue.submit([encoder.finish({ label })]);
    });
    return checked;
  }

  /** A buffer of `size` bytes, rounded up to a multiple of 4 and at least 16. Its label names the layer. */
  createBuffer(label: string, size: number, usage: number): GPUBuffer {
    const buffer = this.device.createBuffer({ label, size: Math.max(16, Math.ceil(size / 4) * 4), usage });
    this.#buffers.add(buffer);
    return buffer;
  }

  destroyBuffer(buffer: GPUBuffer): void {
    if (this.#buffers.delete(buffer)) buffer.destroy();
  }

  /** Gives a buffer to the caller, who destroys it. */
  handOver(buffer: GPUBuffer): void {
    this.#buffers.delete(buffer);
  }

  /** Writes, and waits if too many written bytes are pending. */
  async write(buffer: GPUBuffer, offset: number, data: Float32Array | Uint32Array): Promise<void> {
    this.device.queue.writeBuffer(buffer, offset, data as Float32Array<ArrayBuffer>);
    this.#pending += data.byteLength;
    if (this.#pending > MAX_PENDING) {
      this.device.queue.submit([]);
      await this.flush();
    }
  }

  /** Waits for pending writes, if they are large, and for a loss to be reported. */
  async settle(): Promise<void> {
    if (this.#pending > MIN_FLUSH) await this.flush();
    else await this.ready();
  }

  /** Resolves when the GPU has finished all submitted work. */
  async flush(): Promise<void> {
    this.#pending = 0;
    await this.wait(this.device.queue.onSubmittedWorkDone(), 'waiting for the GPU');
  }

  /** Destroys all buffers, and the device unless it is the caller's. */
  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    for (const buffer of this.#buffers) buffer.destroy();
    this.#buffers.clear();
    if (this.#owned) this.device.destroy();
  }
}
