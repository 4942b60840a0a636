import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { WeightsInput } from '../../../src/weights/bytes/bytes.js';
import { openWeights } from '../../../src/weights/open.js';
import type { OpenOptions } from '../../../src/weights/safetensors/open.js';
import { floatsOf } from '../fixtures.js';
import { type GraphSpec, makeOnnx, type NodeSpec, smallGraph, type TensorSpec } from '../onnx-writer.js';
import { streamOf } from '../rawfile.js';
import { expectBad } from '../refused.js';

/* Weights that a graph makes of others, or that lie in another file. */

async function read(input: WeightsInput, options: OpenOptions = {}): Promise<Record<string, number[]>> {
  const all = await floatsOf(await openWeights(input, options));
  return Object.fromEntries([...all].map(([name, data]) => [name, [...data]]));
}

function changed(change: (graph: GraphSpec) => void, options = {}): Uint8Array<ArrayBuffer> {
  const graph = smallGraph(options);
  change(graph);
  return makeOnnx(graph);
}

const floats = (dims: readonly number[], ...values: number[]): TensorSpec => ({
  dims,
  data: new Uint8Array(new Float32Array(values).buffer),
});
const int8 = (dims: readonly number[], ...values: number[]): TensorSpec => ({
  dims,
  type: 3,
  data: new Uint8Array(new Int8Array(values).buffer),
});

/** Has a weight of the second linear layer, (3, 3), made by nodes. */
function madeBy(tensors: Record<string, TensorSpec>, ...nodes: NodeSpec[]): Uint8Array<ArrayBuffer> {
  return changed((graph) => {
    Object.assign(graph.tensors, tensors);
    graph.nodes.unshift(...nodes);
    const gemm = graph.nodes.find(({ inputs }) => inputs[1] === 'w2') as NodeSpec;
    gemm.inputs[1] = (nodes.at(-1) as NodeSpec).outputs[0] as string;
  });
}

const COUNTING = int8([3, 3], 1, 2, 3, 4, 5, 6, 7, 8, 9);
const transpose = (from: string, to: string): NodeSpec => {
  return { op: 'Transpose', inputs: [from], outputs: [to], attributes: { perm: [1, 0] } };
};
const dequantize = (from: string, to: string, axis?: number, zero = ''): NodeSpec => ({
  op: 'DequantizeLinear',
  inputs: zero === '' ? [from, 'scale'] : [from, 'scale', zero],
  outputs: [to],
  ...(axis !== undefined && { attributes: { axis } }),
});

describe('a weight that is made', () => {
  const one = floats([], 0.5);
  const three = floats([3], 1, 10, 100);
  test.each<[string, Uint8Array<ArrayBuffer>, number[]]>([
    [
      'by DequantizeLinear with one scale',
      madeBy({ q: COUNTING, scale: one }, dequantize('q', 'w')),
      [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5],
    ],
    [
      'with a scale and zero point for each row',
      madeBy({ q: COUNTING, scale: three, zero: int8([3], 1, 0, -1) }, dequantize('q', 'w', 0, 'zero')),
      [0, 1, 2, 40, 50, 60, 800, 900, 1000],
    ],
    [
      'for each column',
      madeBy({ q: COUNTING, scale: three }, dequantize('q', 'w', -1)),
      [1, 20, 300, 4, 50, 600, 7, 80, 900],
    ],
    [
      'for each row, then transposed',
      madeBy({ q: COUNTING, scale: three }, dequantize('q', 'd', 0), transpose('d', 'w')),
      [1, 40, 700, 2, 50, 800, 3, 60, 900],
    ],
    [
      'transposed, then for each row',
      madeBy({ q: COUNTING, scale: three }, transpose('q', 't'), dequantize('t', 'w', 0)),
      [1, 4, 7, 20, 50, 80, 300, 600, 900],
    ],
    [
      'by Cast',
      madeBy(
        { h: { dims: [3, 3], type: 10, data: new Uint8Array(new Uint16Array(9).fill(0x3c00).buffer) } },
        { op: 'Cast', inputs: ['h'], outputs: ['w'], attributes: { to: 1 } },
      ),
      Array(9).fill(1),
    ],
    [
      'by ConstantOfShape',
      madeBy(
        { shape: { dims: [2], type: 7, field: 7, varints: [3, 3] } },
        {
          op: 'ConstantOfShape',
          inputs: ['shape'],
          outputs: ['w'],
          attributes: { value: { tensor: floats([1], 0.25) } },
        },
      ),
      Array(9).fill(0.25),
    ],
    [
      'by Constant',
      madeBy(
        {},
        {
          op: 'Constant',
          inputs: [],
          outputs: ['w'],
          attributes: { value: { tensor: floats([3, 3], ...Array(9).keys()) } },
        },
      ),
      [0, 1, 2, 3, 4, 5, 6, 7, 8],
    ],
  ])('%s', async (_, bytes, values) => {
    for (const input of [bytes, streamOf(bytes)]) expect((await read(input))['classifier.3.weight']).toEqual(values);
  });

  test.each<[string, Uint8Array<ArrayBuffer>, RegExp]>([
    [
      'scales that do not fit',
      madeBy({ q: COUNTING, scale: floats([2], 1, 2) }, dequantize('q', 'w', 0)),
      /expected a scale, or one for each of dimension 0, got \[2\]/,
    ],
    [
      'zero points of another type',
      madeBy({ q: COUNTING, scale: one, zero: floats([], 0) }, dequantize('q', 'w', 0, 'zero')),
      /as many zero points as scales, of the weight's type/,
    ],
    ['floats to dequantize', madeBy({ scale: one }, dequantize('w2', 'w')), /expected integers, got F32/],
    [
      'a cast to integers',
      madeBy({}, { op: 'Cast', inputs: ['w2'], outputs: ['w'], attributes: { to: 7 } }),
      /expected a cast from floats to floats/,
    ],
  ])('%s are refused', async (_, bytes, message) => {
    await expectBad(bytes, message, { code: 'WEIGHTS_MISMATCH', stream: message });
  });

  test('another epsilon is added to the variance', async () => {
    const bytes = changed(
      (graph) => {
        const norm = graph.nodes.find(({ op }) => op === 'BatchNormalization') as NodeSpec;
        norm.attributes = { epsilon: { float: 0.001 } };
      },
      { batchNorm: true },
    );
    const plain = (await read(makeOnnx(smallGraph({ batchNorm: true }))))['features.1.running_var'] as number[];
    const shifted = plain.map((value) => Math.fround(value + Math.fround(0.001) - 1e-5));
    expect((await read(bytes))['features.1.running_var']).toEqual(shifted);
  });

  test("TensorFlow's order, turned around the network and before the classifier", async () => {
    const bytes = changed((graph) => {
      graph.nodes.unshift({ op: 'Transpose', inputs: ['image'], outputs: ['x'], attributes: { perm: [0, 3, 1, 2] } });
      graph.inputs = ['image'];
      const pool = graph.nodes.findIndex(({ op }) => op === 'GlobalAveragePool');
      const [flatten, gemm] = graph.nodes.slice(pool + 1) as [NodeSpec, NodeSpec];
      // A grid of 2×2 with two channels.
      const from = graph.nodes[pool]?.inputs[0] as string;
      graph.nodes[pool] = { op: 'Transpose', inputs: [from], outputs: ['nhwc'], attributes: { perm: [0, 2, 3, 1] } };
      flatten.inputs[0] = 'nhwc';
      graph.tensors.w1 = floats([3, 8], ...Array(24).keys());
      expect(gemm.inputs[1]).toBe('w1');
    });
    const all = await read(bytes);
    expect(all['classifier.0.weight']?.slice(0, 8)).toEqual([0, 2, 4, 6, 1, 3, 5, 7]);
  });
});

describe('values in another file', () => {
  let folder: string;
  let model: string;
  const data = new Uint8Array(new Float32Array([9, 9, 5, 6, 7]).buffer);
  const external = (fields: Record<string, string>): Uint8Array<ArrayBuffer> =>
    changed((graph) => {
      graph.tensors.b1 = { dims: [3], external: fields };
    });
  const bytes = external({ location: 'values.bin', offset: '8', length: '12' });

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'vggnet-onnx-'));
    model = join(folder, 'model.onnx');
    await writeFile(model, bytes);
    await writeFile(join(folder, 'values.bin'), data);
    await writeFile(join(folder, 'a?b#c%20.bin'), data);
  });
  afterAll(() => rm(folder, { recursive: true }));

  async function expectValues(input: WeightsInput, options: OpenOptions = {}): Promise<void> {
    expect((await read(input, options))['classifier.0.bias']).toEqual([5, 6, 7]);
  }

  test('that lies beside a path or file: URL', async () => {
    await expectValues(model);
    await expectValues(pathToFileURL(model));
    await expectValues(pathToFileURL(model).href);
    await writeFile(model, external({ location: 'a?b#c%20.bin', offset: '8' }));
    await expectValues(pathToFileURL(model));
    await writeFile(model, bytes);
  });

  test('that is given by the option externalData, alone or by its path', async () => {
    await expectValues(bytes, { externalData: data });
    await expectValues(bytes, { externalData: new Blob([data]) });
    await expectValues(streamOf(bytes), { externalData: streamOf(data) });
    await expectValues(bytes, { externalData: { 'values.bin': data } });
    const bare = Object.assign(Object.create(null) as object, { 'values.bin': data });
    await expectValues(bytes, { externalData: bare });
  });

  test('that is missing', async () => {
    const missing = {
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/'values.bin'.*by the option externalData/),
    };
    await expect(read(bytes)).rejects.toMatchObject(missing);
    await expect(read(bytes, { externalData: { other: data } })).rejects.toMatchObject(missing);
    const odd = external({ location: 'constructor', offset: '8' });
    await expect(read(odd, { externalData: {} })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining("are in 'constructor', a file beside it"),
    });
    await rm(join(folder, 'values.bin'));
    await expect(read(model)).rejects.toMatchObject({ code: 'IO', message: expect.stringContaining('values.bin') });
  });

  test('that is too short', async () => {
    await expect(read(bytes, { externalData: data.subarray(0, 19) })).rejects.toMatchObject({
      code: 'INVALID_WEIGHTS_FILE',
      message: expect.stringMatching(/'b1' goes from byte 8 to 20, and the file has 19/),
    });
  });

  test.each(['../values.bin', 'a/../../values.bin', '..\\values.bin', '/etc/passwd', 'file:values.bin', 'C:\\x', ''])(
    'at %j is refused',
    async (location) => {
      await expect(read(external({ location }), { externalData: data })).rejects.toMatchObject({
        code: 'INVALID_WEIGHTS_FILE',
        message: expect.stringContaining('which is no file beside the model'),
      });
    },
  );

  test.each([{ offset: '-8' }, { offset: '1e3' }, { length: '8' }, { length: '99999999999999999' }])(
    'with %j is refused',
    async (fields) => {
      const input = external({ location: 'values.bin', ...fields });
      await expect(read(input, { externalData: data })).rejects.toMatchObject({ code: 'INVALID_WEIGHTS_FILE' });
    },
  );
});
