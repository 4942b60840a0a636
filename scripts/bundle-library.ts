import { mkdir, writeFile } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { type ModuleInfo, type OutputChunk, type Plugin, type RolldownBuild, rolldown } from 'rolldown';
import { forBundlers, withTypes } from './annotate.js';
import { minifiedShader } from './minify-wgsl.js';

/*
 * The scripts of the library, by Rolldown: what is needed at once is an entry's file and two that all share, and what is
 * loaded on demand is a file for each demand. esbuild, which bundles the rest, would cut the former into two dozen files.
 */

export interface LibraryOptions {
  /** Files of dist/, and what they are made of. */
  readonly entries: Readonly<Record<string, string>>;
  /** The entry from which the others share modules. */
  readonly main: string;
  /** Before the names of the files of those. */
  readonly prefix: string;
  /** Takes another module for some of the library's, by their paths in src/ without the suffix. */
  readonly replace?: Readonly<Record<string, string>>;
}

const shaders: Plugin = {
  name: 'shaders',
  load(id) {
    if (!id.endsWith('.wgsl')) return undefined;
    return { code: `export default ${JSON.stringify(minifiedShader(id))};`, moduleType: 'js' };
  },
};

const replaced = (modules: Readonly<Record<string, string>>): Plugin => ({
  name: 'replaced',
  resolveId(source, importer) {
    if (!importer || !/^\..*\.js$/.test(source)) return undefined;
    const to = modules[relative('src', join(importer, '..', source)).replace(/\.js$/, '')];
    return to && resolve('src', `${to}.ts`);
  },
});

/** Kernels that a bundler links in: they lie beside the bundle, by the path that the source has for them. */
const linked: Plugin = {
  name: 'linked',
  resolveId(source) {
    return source.endsWith('.wasm') ? { id: source, external: 'absolute' } : undefined;
  },
};

/** Notes what each module imports. */
const collect = (modules: Map<string, ModuleInfo>): Plugin => ({
  name: 'collect',
  moduleParsed(info) {
    modules.set(info.id, info);
  },
});

/** Bundles it into dist/, and gives the paths of all modules that are in it. */
export async function bundleLibrary(options: LibraryOptions): Promise<string[]> {
  const modules = new Map<string, ModuleInfo>();
  const build = await rolldown({
    input: { ...options.entries },
    platform: 'neutral',
    optimization: { inlineConst: { mode: 'all' } },
    external: ['sharp', /^node:/],
    treeshake: { moduleSideEffects: false },
    transform: { target: 'es2022' },
    resolve: { mainFields: ['module', 'main'], extensionAlias: { '.js': ['.ts', '.js'] } },
    plugins: [shaders, linked, replaced(options.replace ?? {}), collect(modules)],
  });
  const { leaves, loaders } = await sharedModules(build, options.main, modules);
  const { output } = await build.generate({
    format: 'esm',
    // A page may load it as it is.
    minify: true,
    // Those for bundlers would be at every `new Map()`; forBundlers() has the ones that they need.
    comments: false,
    // Not named in the scripts: the package does not bring the maps along.
    sourcemap: 'hidden',
    chunkFileNames: '[name]-[hash].js',
    codeSplitting: {
      groups: [
        // Apart, so that a bundler which is asked for the tables alone passes over all the rest, whatever it can prove.
        { name: 'vgg', test: /[\\/]src[\\/]vgg\.ts$/, priority: 1 },
        { name: `${options.prefix}core`, test: (id) => leaves.has(id) && !CATALOG.test(id) },
        { name: `${options.prefix}load`, test: (id) => loaders.has(id) || CATALOG.test(id) },
      ],
    },
  });
  await build.close();
  await mkdir('dist', { recursive: true });
  for (const file of output) {
    const content = isChunk(file) ? withTypes(forBundlers(file.code), file.fileName) : file.source;
    await writeFile(join('dist', file.fileName), content);
  }
  return output.filter(isChunk).flatMap((chunk) => chunk.moduleIds);
}

/** Not in `core`, which it would follow wherever that goes: bundlers can't tell that its calls have no effect. */
const CATALOG = /[\\/]src[\\/]hub[\\/]catalog\.ts$/;

interface Shared {
  readonly leaves: ReadonlySet<string>;
  readonly loaders: ReadonlySet<string>;
}

/**
 * The modules of an entry: those that load nothing on demand and import none that does, and of the rest those that it
 * shares. They may not be one file: a file that loads another on demand, and is imported by that, is a circle, which
 * bundlers of the bundle can't drop even where an application uses nothing of it.
 */
async function sharedModules(
  build: RolldownBuild,
  entry: string,
  modules: ReadonlyMap<string, ModuleInfo>,
): Promise<Shared> {
  const { output } = await build.generate({ format: 'esm' });
  const chunks = new Map(output.filter(isChunk).map((chunk) => [chunk.fileName, chunk]));
  const main = chunks.get(`${entry}.js`) as OutputChunk;
  const files = withAll([main], (chunk) => chunk.imports.flatMap((fileName) => chunks.get(fileName) ?? []));
  const loads = (id: string): boolean => {
    const imported = withAll([id], (one) => modules.get(one)?.importedIds ?? []);
    return [...imported].some((one) => (modules.get(one)?.dynamicallyImportedIds.length ?? 0) > 0);
  };
  const own = [...files].flatMap(({ moduleIds }) => moduleIds);
  return {
    leaves: new Set(own.filter((id) => !loads(id))),
    loaders: new Set(own.filter((id) => loads(id) && !main.moduleIds.includes(id))),
  };
}

/** These and all that follow from them. */
function withAll<T>(from: readonly T[], next: (one: T) => readonly T[]): Set<T> {
  const found = new Set(from);
  for (const one of found) for (const other of next(one)) found.add(other);
  return found;
}

function isChunk(file: { readonly type: string }): file is OutputChunk {
  return file.type === 'chunk';
}
