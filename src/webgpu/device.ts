import { messageOf, VGGNetError } from '../errors.js';
import { ADAPTER_WAIT, type FoundAdapter, findAdapter, requireAdapter } from './adapter.js';
import { Context } from './context.js';
import type { Limits } from './kernel.js';
import { within } from './wait.js';

/** What of an adapter's limits a network can make use of. */
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

/** What helps where it is there. */
const FEATURES = ['shader-f16', 'subgroups', 'timestamp-query'] as const;

export interface DeviceSourceOptions {
  /** The caller's own device, which is never destroyed here and can't be replaced when it is lost. */
  readonly gpuDevice?: GPUDevice | undefined;
  /** Do with lower limits than the adapter has, for tests; 'default' asks for none at all. */
  readonly limits?: Partial<Limits> | 'default' | undefined;
  /** Do without these features, for tests. */
  readonly without?: readonly string[] | undefined;
}

/**
 * Where devices come from. All executables of a backend share one, which is made when the first of them asks for it
 * and destroyed with the last; a device that was lost is replaced by the next that asks.
 */
export class DeviceSource {
  readonly #options: DeviceSourceOptions;
  /** An adapter makes one device and is then used up. */
  #found: FoundAdapter | undefined;
  #current: { readonly context: Promise<Context>; users: number } | undefined;

  constructor(found: FoundAdapter | undefined, options: DeviceSourceOptions) {
    this.#found = found;
    this.#options = options;
  }

  /** The device can be had again after it was lost. */
  get renewable(): boolean {
    return this.#options.gpuDevice === undefined;
  }

  /**
   * The shared device; `release` it once for each time.
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
      // It was lost, and others have moved on.
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
      const context = new Context(gpuDevice, { owned: false, limits: this.#lowered() });
      // `lost` of a device that was lost before is settled: it comes before what is asked for after it.
      await context.ready();
      return context;
    }
    const found = this.#found ?? requireAdapter(await findAdapter());
    this.#found = undefined;
    return new Context(await this.#request(found), { owned: true, limits: this.#lowered() });
  }

  #lowered(): Partial<Limits> | undefined {
    const { limits } = this.#options;
    return limits === 'default' ? undefined : limits;
  }

  async #request({ adapter, description }: FoundAdapter): Promise<GPUDevice> {
    const { limits, without = [] } = this.#options;
    const requiredLimits = Object.fromEntries(LIMITS.map((name) => [name, adapter.limits[name]]));
    const requiredFeatures = FEATURES.filter((name) => !without.includes(name))
      .map((name) => name as GPUFeatureName)
      .filter((name) => adapter.features.has(name));
    const wanted = { label: 'vggnet', requiredFeatures, ...(limits === 'default' ? {} : { requiredLimits }) };
    try {
      const late = (): Error => new Error(`no device came within ${ADAPTER_WAIT / 1000} s`);
      return await within(adapter.requestDevice(wanted), ADAPTER_WAIT, late);
    } catch (error) {
      const why = messageOf(error);
      throw new VGGNetError(
        'BACKEND_UNAVAILABLE',
        `device: 'webgpu' found the adapter '${description}', which gives no device: ${why}. device: 'wasm' runs everywhere`,
        { cause: error },
      );
    }
  }
}
