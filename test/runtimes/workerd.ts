import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { build, type Plugin } from 'esbuild';
import { Miniflare, type ModuleDefinition } from 'miniflare';
import { ROOT } from '../support/project.js';

/* Edge workers: workerd, driven by miniflare, with a bundle as wrangler makes one. */

/** workerd as miniflare brings it knows nothing later. */
export const COMPATIBILITY_DATE = '2026-03-01';

export interface WorkerBundle {
  readonly script: string;
  /** The modules that it links in, by the names that it imports them by. */
  readonly wasm: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
  readonly data: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
}

/**
 * Bundles a worker by the package's condition `workerd`; `.wasm` becomes modules, as wrangler does by default, and
 * `.safetensors` data, as a rule of a project's configuration says.
 * @param resolveFrom the folder where `vggnet` is installed
 */
export async function bundleWorker(entry: string, resolveFrom: string): Promise<WorkerBundle> {
  const wasm = new Map<string, Uint8Array<ArrayBuffer>>();
  const data = new Map<string, Uint8Array<ArrayBuffer>>();
  const modules: Plugin = {
    name: 'modules',
    setup(build) {
      build.onResolve(
        { filter: /^vggnet($|\/)|\.(wasm|safetensors)$/ },
        async ({ path, resolveDir, kind, pluginData }) => {
          if (pluginData === 'asked') return undefined;
          const from = path.startsWith('vggnet') ? resolveFrom : resolveDir;
          const found = await build.resolve(path, { resolveDir: from, kind, pluginData: 'asked' });
          const name = basename(found.path);
          if (!/\.(wasm|safetensors)$/.test(name)) return found;
          (name.endsWith('.wasm') ? wasm : data).set(name, new Uint8Array(await readFile(found.path)));
          return { path: `./${name}`, external: true };
        },
      );
    },
  };
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    conditions: ['workerd', 'worker', 'browser'],
    platform: 'browser',
    external: ['node:*'],
    plugins: [modules],
    // Not the paths of the repository's, by which `vggnet` is src/.
    tsconfigRaw: {},
  });
  return { script: outputFiles[0]?.text ?? '', wasm, data };
}

/** A bundle as miniflare takes it. */
export function modulesOf({ script, wasm, data }: WorkerBundle): ModuleDefinition[] {
  return [
    { type: 'ESModule', path: 'worker.js', contents: script },
    ...[...wasm].map(([path, contents]) => ({ type: 'CompiledWasm' as const, path, contents })),
    ...[...data].map(([path, contents]) => ({ type: 'Data' as const, path, contents })),
  ];
}

/** Starts workerd with one worker. `fixture` is a folder that it reads by its binding FIXTURE. */
export function startWorker(bundle: WorkerBundle, fixture: string): Miniflare {
  return new Miniflare({
    modules: modulesOf(bundle),
    modulesRoot: '/',
    compatibilityDate: COMPATIBILITY_DATE,
    serviceBindings: {
      FIXTURE: async (request: Request) => {
        const name = basename(new URL(request.url).pathname);
        if (!(await readdir(fixture)).includes(name)) return new Response(null, { status: 404 }) as never;
        return new Response(await readFile(join(fixture, name))) as never;
      },
    },
  });
}

export const WORKER: string = join(ROOT, 'test/runtimes/host-worker.ts');
