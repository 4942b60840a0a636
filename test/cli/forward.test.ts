import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { saveSafetensors, Tensor } from '../../src/index.js';
import { openWeights } from '../../src/weights/open.js';
import { expectClose } from '../support/close.js';
import { createOwnModel, saveOwnModel } from './own-model.js';
import { repositoryFile, vggnet } from './run.js';

const golden: {
  readonly architecture: string;
  readonly seed: number;
  readonly shape: readonly number[];
  readonly inputSeed: number;
  readonly cases: readonly { init: string; logits: readonly number[]; relu2_1: readonly number[] }[];
} = JSON.parse(readFileSync(repositoryFile('test/golden/forward.json'), 'utf8'));

const folder = mkdtempSync(join(tmpdir(), 'vggnet-cli-'));
const own = join(folder, 'own.safetensors');
const input = join(folder, 'x.safetensors');
const output = join(folder, 'y.safetensors');

beforeAll(() => saveOwnModel(own));
afterAll(() => rmSync(folder, { recursive: true }));

async function readAll(path: string): Promise<Map<string, Tensor>> {
  const source = await openWeights(path);
  const tensors = new Map(source.entries.map(({ name, shape }) => [name, Tensor.zeros(shape)]));
  for await (const { name, offset, data } of source.chunks(new Set(tensors.keys()))) {
    tensors.get(name)?.data.set(data, offset);
  }
  return tensors;
}

describe('vggnet forward', () => {
  test.each(golden.cases)('with a seed equals PyTorch with that seed, init $init', async (expected) => {
    writeFileSync(input, saveSafetensors({ x: Tensor.randn(golden.shape, { seed: golden.inputSeed }) }));
    const random = ['--model', golden.architecture, '--seed', String(golden.seed), '--init', expected.init];
    const files = ['--input', input, '--output', output];
    const { code, stdout, stderr } = await vggnet(['forward', ...random, ...files, '--layers', 'logits,relu2_1']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain('y.safetensors: logits [2, 1000]\n');
    const tensors = await readAll(output);
    expect([...tensors.keys()]).toEqual(['logits', 'relu2_1']);
    const logits = tensors.get('logits') as Tensor;
    expect(logits.shape).toEqual([2, 1000]);
    const some = logits.data.filter((_, i) => i % 50 === 0);
    // Float32 sums of up to 4096 products of about 1e-2, in another order.
    expectClose(some, expected.logits, { atol: 1e-6, rtol: 1e-4, what: `logits, ${expected.init}` });
    const relu = tensors.get('relu2_1') as Tensor;
    expect(relu.shape).toEqual([2, 6, 10, 12]);
    const rows = [0, 1, 2, 3, 4, 5].flatMap((c) => [0, 2, 4, 6, 8, 10].map((x) => relu.data[720 + c * 120 + 48 + x]));
    expectClose(rows as number[], expected.relu2_1, { atol: 1e-5, rtol: 1e-4, what: `relu2_1, ${expected.init}` });
  });

  test('equals the library, for a file that describes itself and one tensor of several', async () => {
    const x = Tensor.randn([3, 1, 9, 11], { seed: 1 });
    writeFileSync(input, saveSafetensors({ other: Tensor.zeros([2]), x }));
    const files = ['--input', input, '--output', output];
    const { code, stderr } = await vggnet(['forward', '--weights', own, ...files, '--tensor', 'x']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const tensors = await readAll(output);
    expect([...tensors.keys()]).toEqual(['logits']);
    const model = await createOwnModel();
    const expected = await model.forward(x);
    model.dispose();
    expect(tensors.get('logits')?.shape).toEqual([3, 3]);
    expectClose((tensors.get('logits') as Tensor).data, expected.data, { atol: 1e-6, rtol: 1e-5, what: 'logits' });
  });

  test.each<[string, Record<string, Tensor>, string[], number, string]>([
    ['an unknown layer', { x: Tensor.zeros([1, 1, 8, 8]) }, ['--layers', 'relu9_9'], 2, 'UNKNOWN_LAYER'],
    ['several tensors', { a: Tensor.zeros([1, 1, 8, 8]), b: Tensor.zeros([1]) }, [], 2, 'INVALID_ARGUMENT'],
    ['an unknown tensor', { x: Tensor.zeros([1, 1, 8, 8]) }, ['--tensor', 'y'], 2, 'INVALID_ARGUMENT'],
    ['a seed for weights of a file', { x: Tensor.zeros([1, 1, 8, 8]) }, ['--seed', '1'], 2, 'INVALID_ARGUMENT'],
    ['no tensor', {}, [], 1, 'INVALID_WEIGHTS_FILE'],
    ['another rank', { x: Tensor.zeros([1, 8, 8]) }, [], 1, 'INVALID_SHAPE'],
    ['other channels', { x: Tensor.zeros([1, 3, 8, 8]) }, [], 1, 'INVALID_SHAPE'],
    ['an empty batch', { x: Tensor.zeros([0, 1, 8, 8]) }, [], 1, 'INVALID_SHAPE'],
  ])('refuses %s', async (_, tensors, args, exitCode, errorCode) => {
    const out = join(folder, 'refused.safetensors');
    writeFileSync(input, saveSafetensors(tensors));
    const { code, stdout, stderr } = await vggnet([
      'forward',
      ...['--weights', own, '--input', input, '--output', out],
      ...args,
    ]);
    expect({ code, stdout }).toEqual({ code: exitCode, stdout: '' });
    expect(stderr).toMatch(new RegExp(`^vggnet: .* \\(${errorCode}\\)\n$`));
    expect(existsSync(out)).toBe(false);
  });

  test('refuses an input that is not F32, and an output that cannot be written, and leaves nothing', async () => {
    writeFileSync(input, saveSafetensors({ x: Tensor.zeros([1, 1, 8, 8]) }, { dtype: 'F16' }));
    const half = await vggnet(['forward', '--weights', own, '--input', input, '--output', output]);
    expect(half).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('got F16 (INVALID_DTYPE)') });
    writeFileSync(input, saveSafetensors({ x: Tensor.zeros([1, 1, 8, 8]) }));
    const nowhere = await vggnet(['forward', '--weights', own, '--input', input, '--output', join(folder, 'no/y')]);
    expect(nowhere).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('(IO)') });
    expect(readdirSync(folder).filter((name) => name.endsWith('.partial'))).toEqual([]);
  });
});
