import { messageOf, VGGNetError } from '../errors.js';
import { within } from './wait.js';

/*
 * Finds a WebGPU adapter: through `navigator.gpu` in browsers, Deno and workers, and in Node through Dawn, which the
 * optional package `webgpu` contains.
 */

/** An adapter that answered. */
export interface FoundAdapter {
  readonly adapter: GPUAdapter;
  /** Its name, for people. */
  readonly description: string;
  /** True if it computes on the CPU. */
  readonly software: boolean;
}

/** Why there is no adapter, and how to get one: the end of a sentence. */
export interface MissingAdapter {
  readonly missing: string;
}

/** Milliseconds that an adapter may take to answer; a browser starts its GPU process first. */
export const MAX_ADAPTER_MS = 10_000;

/** Loaded once. Dawn must live as long as its adapters. */
let dawn: Promise<GPU> | undefined;

/**
 * The adapter to compute with. Never throws, so that 'auto' can fall back.
 * @param ms how long it may take
 */
export async function findAdapter(ms: number = MAX_ADAPTER_MS): Promise<FoundAdapter | MissingAdapter> {
  try {
    return await within(requestAdapter(), ms, () => new Error(`no adapter answered within ${ms / 1000} s`));
  } catch (error) {
    return { missing: messageOf(error) };
  }
}

async function requestAdapter(): Promise<FoundAdapter | MissingAdapter> {
  const gpu = await findGPU();
  if ('missing' in gpu) return gpu;
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) {
    return { missing: 'WebGPU is available but found no adapter: the driver is missing or blocklisted' };
  }
  return { adapter, ...describeAdapter(adapter) };
}

async function findGPU(): Promise<GPU | MissingAdapter> {
  const here = (globalThis.navigator as Navigator | undefined)?.gpu;
  if (here) return here;
  // Dawn is an addon, which needs a runtime that loads addons.
  if (typeof globalThis.process?.dlopen === 'function') {
    dawn ??= importDawn();
    try {
      return await dawn;
    } catch (error) {
      const why = messageOf(error).split('\n')[0];
      return { missing: `in Node WebGPU needs the package webgpu: run \`npm install webgpu\` (${why})` };
    }
  }
  return { missing: 'this runtime has no navigator.gpu; in a browser it needs a secure context (https: or localhost)' };
}

/** The name is a parameter to hide it from bundlers: a bundle for the web builds without the package. */
async function importDawn(name = 'webgpu'): Promise<GPU> {
  const { create } = (await import(/* webpackIgnore: true */ /* @vite-ignore */ name)) as {
    create: (flags: string[]) => GPU;
  };
  return create([]);
}

/** The adapter's name, and whether it computes on the CPU. */
export function describeAdapter(
  adapter: Pick<GPUAdapter, 'info'> | { info?: undefined },
): Omit<FoundAdapter, 'adapter'> {
  const info: Partial<GPUAdapterInfo> = adapter.info ?? {};
  const names = [info.description, info.device, info.architecture, info.vendor].filter((name) => name);
  const all = names.join(' ');
  // A member of `info`, and before 2025 of the adapter itself.
  const fallback = info.isFallbackAdapter ?? (adapter as { isFallbackAdapter?: boolean }).isFallbackAdapter ?? false;
  return {
    description: names[0] ?? 'an unnamed adapter',
    software: fallback || /swiftshader|llvmpipe|lavapipe|softpipe|basic render/i.test(all),
  };
}

/** @throws VGGNetError `BACKEND_UNAVAILABLE` with the reason and a remedy */
export function requireAdapter(found: FoundAdapter | MissingAdapter): FoundAdapter {
  if ('adapter' in found) return found;
  throw new VGGNetError(
    'BACKEND_UNAVAILABLE',
    `device: 'webgpu' needs a WebGPU adapter: ${found.missing}. device: 'wasm' runs everywhere`,
  );
}
