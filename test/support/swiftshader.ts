import { existsSync } from 'node:fs';

const FOLDERS = ['/usr/lib/chromium', '/usr/lib64/chromium-browser', '/opt/google/chrome'];

/**
 * SwiftShader's driver for Vulkan, as Chromium brings it along: an adapter for Dawn where there is no GPU. Another one is
 * taken if VK_ICD_FILENAMES names it; undefined where there is none.
 */
export const SWIFTSHADER: string | undefined =
  process.env.VK_ICD_FILENAMES ||
  FOLDERS.map((folder) => `${folder}/vk_swiftshader_icd.json`).find((path) => existsSync(path));
