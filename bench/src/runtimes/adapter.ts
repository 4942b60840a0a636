import { existsSync, readdirSync } from 'node:fs';

/*
 * WebGPU where there is no GPU: drivers that compute on the CPU. They show that kernels are right, and how they compare
 * with others on the same driver; they measure no GPU, and rows name the adapter.
 */

/** SwiftShader's driver for Vulkan, as Debian's chromium package brings it. */
const SWIFTSHADER = '/usr/lib/chromium/vk_swiftshader_icd.json';

/** True unless the system has no device of a GPU; only Linux can be asked by its files. */
export function hasGpu(): boolean {
  if (process.platform !== 'linux') return true;
  return ['/dev/dri', '/dev/dxg', '/dev/nvidia0'].some((path) => existsSync(path) && !isEmptyFolder(path));
}

function isEmptyFolder(path: string): boolean {
  try {
    return readdirSync(path).length === 0;
  } catch {
    // A device, not a folder.
    return false;
  }
}

/** Environment variables for a process that uses Vulkan: a driver that computes on the CPU, if there is no GPU. */
export function softwareDriver(): Record<string, string> {
  const chosen = process.env.VK_ICD_FILENAMES ?? process.env.VK_DRIVER_FILES;
  return chosen === undefined && !hasGpu() && existsSync(SWIFTSHADER) ? { VK_ICD_FILENAMES: SWIFTSHADER } : {};
}
