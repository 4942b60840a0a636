/* The size of a WebAssembly memory. */

export const PAGE = 65_536;
export const MAX_PAGES = 65_536;

/** The largest WebAssembly memory. */
export const MAX_BYTES: number = MAX_PAGES * PAGE;
/** Lower addresses are never written: null pointers show, and the kernels' tiles start from the zeros there. */
export const FIRST_ADDRESS = 1024;

/** Bytes rounded up to whole pages, the unit in which memory grows. */
export function wholePages(bytes: number): number {
  return Math.ceil(bytes / PAGE) * PAGE;
}

export function mib(bytes: number): string {
  return `${Math.ceil(bytes / 2 ** 20)} MiB`;
}
