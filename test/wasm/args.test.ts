import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import * as args from '../../src/wasm/plan/args.js';
import { ARGUMENT_BYTES } from '../../src/wasm/plan/memory.js';

/* The descriptions of the argument structs, against the classes in the kernels' source. */

interface Struct {
  readonly file: string;
  /** Its class. */
  readonly name: string;
  /** Of the class that it extends. */
  readonly base?: string;
  readonly description: string;
}

const STRUCTS: readonly Struct[] = [
  { file: 'tile', name: 'Epilogue', description: args.EPILOGUE },
  { file: 'conv2d', name: 'ConvolutionArgs', base: 'Epilogue', description: args.CONVOLUTION },
  { file: 'conv2d-int8', name: 'Conv2dInt8Args', base: 'ConvolutionArgs', description: args.CONV2D_INT8 },
  { file: 'winograd', name: 'WinogradArgs', base: 'ConvolutionArgs', description: args.WINOGRAD },
  { file: 'pool', name: 'MaxPool2dArgs', description: args.MAX_POOL2D },
  { file: 'linear-common', name: 'LinearArgs', description: args.LINEAR },
  { file: 'gemm', name: 'GemmArgs', base: 'Epilogue', description: args.GEMM },
];

/** The class that `name` extends, and its own fields with their types. */
async function parse(file: string, name: string): Promise<{ base: string | undefined; fields: string[] }> {
  const source = await readFile(new URL(`../../assembly/${file}.ts`, import.meta.url), 'utf8');
  const [, base, body] = new RegExp(`@unmanaged\\s+(?:export )?class ${name}(?: extends (\\w+))? \\{([^}]*)\\}`).exec(
    source,
  ) as unknown as [string, string | undefined, string];
  const code = body.replaceAll(/\/\*\*.*?\*\//gs, '').replaceAll(/\/\/.*/g, '');
  return { base, fields: code.split(';').flatMap((field) => field.trim() || []) };
}

/** The field of a description as AssemblyScript declares it; an integer is an address or not. */
const declared = (field: string): RegExp => {
  const [name, type = '(usize|i32)'] = field.split(':');
  return new RegExp(`^${name}: ${type}$`);
};

describe.each(STRUCTS)('$name of assembly/$file.ts', ({ file, name, base, description }) => {
  test('has the described fields in the described order', async () => {
    const actual = await parse(file, name);
    expect(actual.base).toBe(base);
    expect(actual.fields).toEqual(description.split(' ').map((field) => expect.stringMatching(declared(field))));
  });
});

test('every argument struct of the kernels is described', async () => {
  const parallel = await readFile(new URL('../../assembly/parallel.ts', import.meta.url), 'utf8');
  const used = new Set([...parallel.matchAll(/changetype<(\w+)>/g)].map(([, name]) => name));
  expect(used.size).toBeGreaterThan(4);
  expect(STRUCTS.map(({ name }) => name)).toEqual(expect.arrayContaining([...used]));
});

test('a struct is written base class first, each field in a word of its type', () => {
  const memory = new WebAssembly.Memory({ initial: 1 });
  args.writeStruct(memory, 64, ['a b', 'c:f32 d'], { d: 4, c: 0.5, b: -2, a: 0xffff_fff0 });
  const view = new DataView(memory.buffer, 64);
  expect([view.getUint32(0, true), view.getInt32(4, true)]).toEqual([0xffff_fff0, -2]);
  expect([view.getFloat32(8, true), view.getInt32(12, true), view.getInt32(16, true)]).toEqual([0.5, 4, 0]);
});

test('the largest struct fits into the memory that is reserved for one', () => {
  const largest = [args.EPILOGUE, args.CONVOLUTION, args.WINOGRAD].join(' ').split(' ').length;
  expect(4 * largest).toBeLessThanOrEqual(ARGUMENT_BYTES);
});
