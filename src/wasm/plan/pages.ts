/* The size of a WebAssembly memory. */

export const PAGE = 65_536;
export const MAX_PAGES = 65_536;

/** The most that a WebAssembly memory can have. */
export const MAX_BYTES: number = MAX_PAGES * PAGE;
/** What lies below stays free, so that a null pointer shows, and zero, which the kernels' tiles start from. */
export const FIRST_ADDRESS = 1024;

/** Bytes in the unit that memory grows by, rounded up. */
export function wholePages(bytes: number): number {
  return Math.ceil(bytes / PAGE) * PAGE;
}

export function mib(bytes: number): string {
  return `${Math.ceil(bytes / 2 ** 20)} MiB`;
}
