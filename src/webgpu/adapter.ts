import { messageOf, VGGNetError } from '../errors.js';
import { within } from './wait.js';

/*
 * Finds WebGPU where there is any: `navigator.gpu` in browsers, Deno and workers, and Dawn by the optional package
 * `webgpu` in Node.
 */

/** An adapter that answered. */
export interface FoundAdapter {
  readonly adapter: GPUAdapter;
  /** For a person: the vendor's name of it. */
  readonly description: string;
  /** It computes on the CPU. */
  readonly software: boolean;
}

/** Why there is no adapter, and what to do about it: the end of a sentence. */
export interface MissingAdapter {
  readonly missing: string;
}

/** How long an adapter may take to answer, in ms. A browser starts its GPU process first. */
export const ADAPTER_WAIT = 10_000;

/** Dawn, which has to live as long as its adapters; asked for once. */
let dawn: Promise<GPU> | undefined;

/**
 * The adapter to compute with; never throws, so that 'auto' can go on.
 * @param wait how long it may take, in ms
 */
export async function findAdapter(wait: number = ADAPTER_WAIT): Promise<FoundAdapter | MissingAdapter> {
  try {
    return await within(askForAdapter(), wait, () => new Error(`no adapter answered within ${wait / 1000} s`));
  } catch (error) {
    return { missing: messageOf(error) };
  }
}

async function askForAdapter(): Promise<FoundAdapter | MissingAdapter> {
  const gpu = await findGPU();
  if ('missing' in gpu) return gpu;
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) return { missing: 'WebGPU is here, and no adapter: a driver is missing, or it is on a block list' };
  return { adapter, ...describeAdapter(adapter) };
}

async function findGPU(): Promise<GPU | MissingAdapter> {
  const here = (globalThis.navigator as Navigator | undefined)?.gpu;
  if (here) return here;
  // Dawn is an addon, so this has to be a runtime that loads those.
  if (typeof globalThis.process?.dlopen === 'function') {
    dawn ??= importDawn();
    try {
      return await dawn;
    } catch (error) {
      const why = messageOf(error).split('\n')[0];
      return { missing: `Node has WebGPU by the package webgpu: run \`npm install webgpu\` (${why})` };
    }
  }
  return { missing: 'this runtime has no navigator.gpu; in a browser the page must also be a secure context' };
}

/** The name is a parameter, so that bundlers do not see it: a bundle for the web builds without the package. */
async function importDawn(name = 'webgpu'): Promise<GPU> {
  const { create } = (await import(/* webpackIgnore: true */ /* @vite-ignore */ name)) as {
    create: (flags: string[]) => GPU;
  };
  return create([]);
}

/** What an adapter is called, and whether it computes on the CPU. */
export function describeAdapter(
  adapter: Pick<GPUAdapter, 'info'> | { info?: undefined },
): Omit<FoundAdapter, 'adapter'> {
  const info: Partial<GPUAdapterInfo> = adapter.info ?? {};
  const names = [info.description, info.device, info.architecture, info.vendor].filter((name) => name);
  const all = names.join(' ');
  // On `info` now, and on the adapter itself in implementations of before 2025.
  const fallback = info.isFallbackAdapter ?? (adapter as { isFallbackAdapter?: boolean }).isFallbackAdapter ?? false;
  return {
    description: names[0] ?? 'an adapter that gives no name',
    software: fallback || /swiftshader|llvmpipe|lavapipe|softpipe|basic render/i.test(all),
  };
}

/** @throws VGGNetError `BACKEND_UNAVAILABLE` that says why and what to do */
export function requireAdapter(found: FoundAdapter | MissingAdapter): FoundAdapter {
  if ('adapter' in found) return found;
  throw new VGGNetError(
    'BACKEND_UNAVAILABLE',
    `device: 'webgpu' needs a WebGPU adapter: ${found.missing}. device: 'wasm' runs everywhere`,
  );
}
