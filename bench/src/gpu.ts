import { Unavailable } from './job.js';

/**
 * The adapter by its own words, with `computes on the CPU` where it is one of the known software ones: that of
 * `navigator.gpu` where the runtime has it, else of the npm package `webgpu` (Dawn), which the library takes in Node.
 * @throws Unavailable if there is none, with what was looked for
 */
export async function adapterName(): Promise<string> {
  const { vendor, architecture, device, description } = (await findAdapter()).info;
  // Some implementations give PCI's numbers there.
  const words = [vendor, architecture, device, description].filter((word) => word && !/^\d+$/.test(word));
  const name = [...new Set(words)].join(' ') || 'unnamed adapter';
  return isSoftware(name) ? `${name}${ON_CPU}` : name;
}

/** What a name of an adapter that is no GPU ends with. */
export const ON_CPU = ' (computes on the CPU)';

export function isSoftware(adapter: string): boolean {
  return /swiftshader|llvmpipe|lavapipe|software|warp|basic render/i.test(adapter);
}

let dawn: Promise<GPU> | undefined;

/** Kept, as Dawn's devices die with what `create` gave. */
function startDawn(): Promise<GPU> {
  dawn ??= import('webgpu').then(
    ({ create }) => create([]) as GPU,
    (error: Error) => {
      throw new Unavailable(`no navigator.gpu, and the npm package webgpu does not start: ${error.message}`);
    },
  );
  return dawn;
}

async function findAdapter(): Promise<GPUAdapter> {
  const own = globalThis.navigator?.gpu;
  const adapter = await (own ?? (await startDawn())).requestAdapter({ powerPreference: 'high-performance' });
  if (adapter) return adapter;
  const looked = own ? 'navigator.gpu' : 'the npm package webgpu (Dawn), as there is no navigator.gpu';
  throw new Unavailable(
    `no GPU: requestAdapter gave null (looked through ${looked}; without a GPU, drivers that compute on the CPU are in ` +
      "Debian's chromium, libvulkan1 and mesa-vulkan-drivers)",
  );
}
