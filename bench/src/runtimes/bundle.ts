import { join } from 'node:path';
import { Unavailable } from '../job.js';
import { describeCommit } from '../machine.js';

const done = new Map<string, Promise<void>>();

/** Bundles what runs in browsers into `.cache/build/web`, once in a run: the measuring page and the visitor's page. */
export function bundleForBrowsers(benchFolder: string): Promise<void> {
  let bundle = done.get(benchFolder);
  if (!bundle) {
    bundle = build(benchFolder);
    done.set(benchFolder, bundle);
  }
  return bundle;
}

async function build(benchFolder: string): Promise<void> {
  const esbuild = await import('esbuild').catch((error: Error) => {
    throw new Unavailable(`esbuild can't be imported: ${error.message}`);
  });
  await esbuild.build({
    entryPoints: {
      host: join(benchFolder, 'src/runtimes/page.ts'),
      main: join(benchFolder, 'page/main.ts'),
    },
    outdir: join(benchFolder, '.cache/build/web'),
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    // onnxruntime-web finds its own files from its own URL (host.html); the others are for Node alone.
    external: ['onnxruntime-web', 'onnxruntime-node', 'webgpu', 'sharp', 'node:*'],
    define: { COMMIT: JSON.stringify(describeCommit(join(benchFolder, '..'))) },
    sourcemap: true,
    logLevel: 'error',
  });
}
