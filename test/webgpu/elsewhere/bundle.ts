import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

/* Bundles tests for another runtime, with what stands in for vitest and for the list of backends. */

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** @param entry a file of this folder */
export async function bundleTests(entry: string, outfile: string): Promise<void> {
  await build({
    entryPoints: [at(entry)],
    outfile,
    bundle: true,
    format: 'esm',
    target: 'es2022',
    platform: 'node',
    loader: { '.wgsl': 'text' },
    logLevel: 'error',
    // What the tests read lies beside them.
    define: { 'import.meta.url': JSON.stringify(new URL('../../support/golden.ts', import.meta.url).href) },
    alias: { vitest: at('vitest.ts') },
    plugins: [
      {
        name: 'backends',
        setup({ onResolve }) {
          onResolve({ filter: /\/backends\.js$/ }, () => ({ path: at('backends.ts') }));
        },
      },
    ],
  });
}
