type NodeFs = typeof import('node:fs');

/**
 * The file system of Node, Deno and Bun, or undefined in browsers and edge workers. It is reached through
 * `process.getBuiltinModule`, so that nothing is imported where there is none.
 */
export function nodeFs(): NodeFs | undefined {
  const fs = globalThis.process?.getBuiltinModule?.('node:fs');
  return typeof fs?.promises?.open === 'function' ? fs : undefined;
}
