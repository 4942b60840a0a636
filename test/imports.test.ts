import { cruise, type ICruiseResult } from 'dependency-cruiser';
import { beforeAll, expect, test } from 'vitest';

/*
 * Which file may import which. The sources are floors: a file imports from its own floor and those below, and that holds
 * for types too. No file imports itself by way of other files, types apart: such a circle can only be understood as a
 * whole, and its order of evaluation is a matter of luck.
 */

/** From the ground up, each with the beginnings of its files' paths; a longer one on another floor goes first. */
const FLOORS: Readonly<Record<string, readonly string[]>> = {
  ground: [
    ...['errors', 'tensor', 'gpu-tensor', 'abort', 'random', 'nearest', 'serial-queue', 'url', 'version'],
    ...['platform/asset.', 'platform/embedded', 'platform/event-loop', 'platform/modules', 'platform/node'],
  ],
  program: ['program/'],
  contract: ['backend.ts'],
  'images, and the lists': ['image/', 'platform/codecs', 'vgg.ts'],
  backends: ['reference/', 'wasm/', 'webgpu/', 'platform/assets'],
  configuration: ['model/config.ts'],
  weights: ['weights/'],
  'parts of the model': ['model/'],
  hub: ['hub/'],
  model: ['model.ts'],
  'the package and its uses': ['index.ts', 'serve/', 'cli/'],
};

interface Import {
  readonly from: string;
  readonly to: string;
  readonly isType: boolean;
}

let files: string[];
let imports: Import[];

beforeAll(async () => {
  const { output } = await cruise(
    ['src', 'assembly'],
    { tsPreCompilationDeps: 'specify', doNotFollow: { path: 'node_modules' }, outputType: 'json' },
    { extensions: ['.ts', '.js'], extensionAlias: { '.js': ['.ts', '.js'] } },
  );
  const { modules } = JSON.parse(output as string) as ICruiseResult;
  const own = modules.filter(({ source }) => /^(src|assembly)\/.*\.ts$/.test(source));
  files = own.map(({ source }) => source);
  imports = own.flatMap(({ source, dependencies }) =>
    dependencies
      .filter(({ resolved }) => files.includes(resolved))
      .map(({ resolved, dependencyTypes }) => {
        return { from: source, to: resolved, isType: dependencyTypes.includes('type-only') };
      }),
  );
}, 180_000);

/** The floor of a file of src/; −1 if it is on none. */
function floorOf(file: string): number {
  const matches = Object.values(FLOORS).map((prefixes) =>
    Math.max(0, ...prefixes.filter((prefix) => file.startsWith(`src/${prefix}`)).map(({ length }) => length)),
  );
  const longest = Math.max(...matches);
  return longest === 0 ? -1 : matches.indexOf(longest);
}

test('all files and their imports were found', () => {
  expect(files.length).toBeGreaterThan(200);
  expect(imports).toContainEqual({ from: 'src/index.ts', to: 'src/model.ts', isType: false });
  expect(imports).toContainEqual({ from: 'src/backend.ts', to: 'src/tensor.ts', isType: true });
  expect(imports).toContainEqual({ from: 'assembly/conv2d.ts', to: 'assembly/gemm.ts', isType: false });
});

test('every file is on a floor', () => {
  expect(files.filter((file) => file.startsWith('src/') && floorOf(file) < 0)).toEqual([]);
});

test('no import runs upward, and none from src/ into assembly/ or back', () => {
  const upward = imports.filter(({ from, to }) => {
    const apart = from.startsWith('src/') !== to.startsWith('src/');
    return apart || floorOf(to) > floorOf(from);
  });
  expect(upward.map(({ from, to }) => `${from} → ${to}`)).toEqual([]);
});

test('no file imports itself by way of others', () => {
  expect(circles(imports.filter(({ isType }) => !isType))).toEqual([]);
});

/** The groups of files each of which reaches all others of its group. */
function circles(edges: readonly Import[]): string[][] {
  const next = byKey(edges, ({ from }) => from);
  const reach = (start: string): Set<string> => {
    const found = new Set<string>();
    const left = [start];
    for (let file = left.pop(); file !== undefined; file = left.pop()) {
      for (const { to } of next.get(file) ?? []) {
        if (found.has(to)) continue;
        found.add(to);
        left.push(to);
      }
    }
    return found;
  };
  const reached = new Map([...next.keys()].map((file) => [file, reach(file)]));
  const inCircle = [...reached].filter(([file, found]) => found.has(file)).map(([file]) => file);
  const groups = byKey(inCircle, (file) =>
    inCircle
      .filter((other) => reached.get(file)?.has(other) && reached.get(other)?.has(file))
      .sort()
      .join(' '),
  );
  return [...groups.values()].map((group) => group.sort()).sort();
}

test('circles are found: a test of the test', () => {
  const edge = (from: string, to: string): Import => ({ from, to, isType: false });
  expect(circles([edge('a', 'b'), edge('b', 'c'), edge('c', 'b'), edge('c', 'd')])).toEqual([['b', 'c']]);
  expect(circles([edge('a', 'b'), edge('b', 'c'), edge('a', 'c')])).toEqual([]);
});

/** `Map.groupBy`, which Node 20 does not have. */
function byKey<T>(values: readonly T[], keyOf: (value: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const value of values) {
    const key = keyOf(value);
    groups.set(key, [...(groups.get(key) ?? []), value]);
  }
  return groups;
}
