import { join } from 'node:path';
import { build, type Plugin } from 'esbuild';
import { ROOT } from '../support/project.js';

/** Compiles a script of this folder to JavaScript, with `vggnet` imported from `library`, or left as it is. */
export async function compileScript(name: string, library = 'vggnet'): Promise<string> {
  const external: Plugin = {
    name: 'vggnet',
    setup: ({ onResolve }) => onResolve({ filter: /^vggnet$/ }, () => ({ path: library, external: true })),
  };
  const { outputFiles } = await build({
    entryPoints: [join(ROOT, 'test/runtimes', name)],
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'neutral',
    target: 'es2022',
    external: ['node:*'],
    plugins: [external],
    // Not the paths of the repository's, by which `vggnet` is src/.
    tsconfigRaw: {},
  });
  return outputFiles[0]?.text ?? '';
}
