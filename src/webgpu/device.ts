import { messageOf, VGGNetError } from '../errors.js';
import { type FoundAdapter, findAdapter, MAX_ADAPTER_MS, requireAdapter } from './adapter.js';
import { Context } from './context.js';
import type { Limits } from './kernel.js';
import { within } from './wait.js';

/** The limits of an adapter that a network uses. */
const LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
  'maxComputeWorkgroupSizeY',
  'maxComputeWorkgroupSizeZ',
  'maxComputeWorkgroupsPerDimension',
  'maxStorageBuffersPerShaderStage',
  'maxTextureDimension2D',
] as const;

/** Features that are used where available. */
const FEATURES = ['shader-f16', 'subgroups', 'timestamp-query'] as const;

export interface DeviceSourceOptions {
  /** The caller's device, which is never destroyed here, and cannot be replaced when it is lost. */
  readonly gpuDevice?: GPUDevice | undefined;
  /** Lower limits than the adapter's, for tests; 'default' requests none. */
  readonly limits?: Partial<Limits> | 'default' | undefined;
  /** Features not to request, for tests. */
  readonly without?: readonly string[] | undefined;
}

/**
 * Makes devices. All executables of a backend share one device: the first to need it makes it, and the last destroys
 * it. The first to need it after a loss makes a new one.
 */
export class DeviceSource {
  readonly #options: DeviceSourceOptions;
  /** An adapter makes one device. */
  #found: FoundAdapter | undefined;
  #current: { readonly context: Promise<Context>; users: number } | undefined;

  constructor(found: FoundAdapter | undefined, options: DeviceSourceOptions) {
    this.#found = found;
    this.#options = options;
  }

  /** A lost device can be replaced. */
  get renewable(): boolean {
    return this.#options.gpuDevice === undefined;
  }

  /**
   * The shared device. Every call needs a `release`.
   * @throws VGGNetError `BACKEND_UNAVAILABLE`, `DEVICE_LOST`
   */
  async acquire(): Promise<Context> {
    const lost = await this.#current?.context.then(({ lostError }) => lostError).catch((error: unknown) => error);
    if (lost && this.renewable) this.#current = undefined;
    this.#current ??= { context: this.#open(), users: 0 };
    const shared = this.#current;
    shared.users++;
    try {
      const context = await shared.context;
      if (context.lostError) throw context.lostError;
      return context;
    } catch (error) {
      if (this.#current === shared) this.#current = undefined;
      throw error;
    }
  }

  async release(context: Context): Promise<void> {
    const shared = this.#current;
    if (!shared || (await shared.context) !== context) {
      // It was lost and replaced.
      context.destroy();
      return;
    }
    shared.users--;
    if (shared.users > 0) return;
    this.#current = undefined;
    context.destroy();
  }

  async #open(): Promise<Context> {
    const { gpuDevice } = this.#options;
    if (gpuDevice) {
      const context = new Context(gpuDevice, { owned: false, limits: this.#testLimits() });
      // If the device is lost already, `lost` settles before any later promise.
      await context.ready();
      return context;
    }
    const found = this.#found ?? requireAdapter(await findAdapter());
    this.#found = undefined;
    return new Context(await this.#request(found), { owned: true, limits: this.#testLimits() });
  }

  #testLimits(): Partial<Limits> | undefined {
    const { limits } = this.#options;
    return limits === 'default' ? undefined : limits;
  }

  async #request({ adapter, description }: FoundAdapter): Promise<GPUDevice> {
    const { limits, without = [] } = this.#options;
    const requiredLimits = Object.fromEntries(LIMITS.map((name) => [name, adapter.limits[name]]));
    const requiredFeatures = FEATURES.filter((name) => !without.includes(name))
      .map((name) => name as GPUFeatureName)
      .filter((name) => adapter.features.has(name));
    const descriptor = { label: 'vggnet', requiredFeatures, ...(limits === 'default' ? {} : { requiredLimits }) };
    try {
      const late = (): Error => new Error(`no device within ${MAX_ADAPTER_MS / 1000} s`);
      return await within(adapter.requestDevice(descriptor), MAX_ADAPTER_MS, late);
    } catch (error) {
      const why = messageOf(error);
      throw new VGGNetError(
        'BACKEND_UNAVAILABLE',
        `device: 'webgpu' found the adapter '${description}', which provides no device: ${why}. device: 'wasm' runs everywhere`,
        { cause: error },
      );
    }
  }
}
