import { Unavailable } from './job.js';

/**
 * Makes sure that a WebGPU adapter on a real GPU is here, for the rows of peers: `navigator.gpu` where the runtime
 * has it, else that of the npm package `webgpu` (Dawn), put in its place.
 * @throws Unavailable with what was looked for
 */
export async function findAdapter(): Promise<void> {
  let gpu: GPU | undefined = globalThis.navigator?.gpu;
  let looked = 'navigator.gpu';
  if (!gpu) {
    looked = 'the npm package webgpu (Dawn), as there is no navigator.gpu';
    try {
      const dawn = await import('webgpu');
      Object.assign(globalThis, dawn.globals);
      gpu = dawn.create([]) as GPU;
    } catch (error) {
      throw new Unavailable(`no navigator.gpu, and the npm package webgpu does not start: ${(error as Error).message}`);
    }
    const value = Object.create(globalThis.navigator ?? null, { gpu: { value: gpu } });
    Object.defineProperty(globalThis, 'navigator', { value, configurable: true });
  }
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) throw new Unavailable(`no GPU: requestAdapter gave null (looked through ${looked})`);
  const { vendor, architecture, description } = adapter.info;
  const name = [vendor, architecture, description].filter(Boolean).join(' ');
  if (/swiftshader|llvmpipe|lavapipe|software/i.test(name)) {
    throw new Unavailable(`the only adapter computes on the CPU (${name}): good for tests, no measure of a GPU`);
  }
}
