import { SWIFTSHADER } from './swiftshader.js';

/* Dawn in this process, on SwiftShader, the software Vulkan driver that comes with Chromium. */

let gpu: Promise<GPU> | undefined;

/** One instance for the whole process, which is never let go: its loop would end under a waiting promise. */
export function dawn(): Promise<GPU> {
  gpu ??= (async () => {
    if (!SWIFTSHADER) throw new Error('No SwiftShader driver: install Chromium, or set VK_ICD_FILENAMES to a driver');
    process.env.VK_ICD_FILENAMES = SWIFTSHADER;
    const { create, globals } = await import('webgpu');
    Object.assign(globalThis, globals);
    return create([]) as GPU;
  })();
  return gpu;
}

/** An adapter; fails where there is none, so that no test passes for want of one. */
export async function dawnAdapter(): Promise<GPUAdapter> {
  const adapter = await (await dawn()).requestAdapter();
  if (!adapter) throw new Error(`Dawn finds no adapter with the driver ${process.env.VK_ICD_FILENAMES}`);
  return adapter;
}
