import { describe, expect, test } from 'vitest';
import { openWeights } from '../../../src/weights/open.js';
import { floatsOf, readFloats } from '../fixtures.js';
import { type GraphSpec, makeOnnx, type NodeSpec, smallGraph } from '../onnx-writer.js';
import { streamOf } from '../rawfile.js';
import { expectBad } from '../refused.js';

/** A graph with a change. */
function changed(change: (graph: GraphSpec) => void, options = {}): Uint8Array<ArrayBuffer> {
  const graph = smallGraph(options);
  change(graph);
  return makeOnnx(graph);
}

const nodeOf = (graph: GraphSpec, op: string, index = 0): NodeSpec =>
  graph.nodes.filter((node) => node.op === op)[index] as NodeSpec;

/** Puts a node behind another one. */
function insertAfter(graph: GraphSpec, index: number, node: Partial<NodeSpec> & { op: string }): void {
  const before = graph.nodes[index] as NodeSpec;
  const value = before.outputs[0] as string;
  const between = `between ${graph.nodes.length}`;
  before.outputs = [between];
  const { inputs = [], ...rest } = node;
  graph.nodes.splice(index + 1, 0, { ...rest, inputs: [between, ...inputs], outputs: [value] });
}

describe('a VGG', () => {
  test('is found by its graph, whatever the tensors are called', async () => {
    const source = await openWeights(makeOnnx(smallGraph({ batchNorm: true })));
    expect(JSON.parse(source.metadata.vggnet as string)).toEqual({
      name: 'vgg',
      architecture: [2, 'M'],
      batchNorm: true,
      inChannels: 2,
      numClasses: 4,
      hiddenFeatures: 3,
      poolSize: 1,
      dropout: 0.5,
    });
    const all = await floatsOf(source);
    expect(all.get('features.0.bias')).toEqual(new Float32Array([37, 38]));
    expect(all.get('features.1.running_var')).toEqual(new Float32Array([82, 83]));
    expect(all.get('classifier.6.weight')?.slice(0, 3)).toEqual(new Float32Array([60, 61, 62]));
    expect(all.size).toBe(12);
  });

  test('weights as (in, out) are turned', async () => {
    const bytes = changed((graph) => {
      nodeOf(graph, 'Gemm').attributes = {};
      (graph.tensors.w1 as { dims: number[] }).dims = [2, 3];
    });
    const turned = (await readFloats(bytes)).get('classifier.0.weight');
    expect([...(turned as Float32Array)]).toEqual([39, 42, 40, 43, 41, 44]);
    expect((await readFloats(streamOf(bytes))).get('classifier.0.weight')).toEqual(turned);
  });

  const halves = [0x3c00, 0xc000, 0x7bff];
  test.each<[string, object, number[]]>([
    ['F16', { type: 10, data: new Uint8Array(new Uint16Array(halves).buffer) }, [1, -2, 65504]],
    ['F16 as integers', { type: 10, field: 5, varints: halves }, [1, -2, 65504]],
    ['BF16', { type: 16, data: new Uint8Array(new Uint16Array([0x3f80, 0xc000, 0x4000]).buffer) }, [1, -2, 2]],
    ['F64', { type: 11, data: new Uint8Array(new Float64Array([1, -2, 0.1]).buffer) }, [1, -2, Math.fround(0.1)]],
    ['F64 as doubles', { type: 11, field: 10, data: new Uint8Array(new Float64Array([1, 2, 3]).buffer) }, [1, 2, 3]],
    ['F32 as floats', { type: 1, field: 4, data: new Uint8Array(new Float32Array([1, 2, 3]).buffer) }, [1, 2, 3]],
  ])('%s', async (_, tensor, values) => {
    const bytes = changed((graph) => {
      graph.tensors.b1 = { dims: [3], ...tensor };
    });
    for (const input of [bytes, streamOf(bytes, 3)]) {
      expect([...((await readFloats(input)).get('classifier.0.bias') as Float32Array)]).toEqual(values);
    }
  });

  test.each<[string, (graph: GraphSpec) => void]>([
    [
      'a tensor by way of Identity',
      (g) => {
        nodeOf(g, 'Conv').inputs[2] = 'same';
        g.nodes.unshift({ op: 'Identity', inputs: ['b0'], outputs: ['same'] });
      },
    ],
    [
      'dropout and Identity',
      (g) => {
        insertAfter(g, 1, { op: 'Identity' });
        insertAfter(g, 7, { op: 'Dropout' });
      },
    ],
    [
      'Softmax at the end',
      (g) => {
        g.nodes.push({ op: 'Softmax', inputs: g.outputs, outputs: ['p'] });
        g.outputs = ['p'];
      },
    ],
    [
      'no biases',
      (g) => {
        nodeOf(g, 'Conv').inputs.length = 2;
        nodeOf(g, 'Gemm', 2).inputs.length = 2;
      },
    ],
    [
      'a constant that nobody uses',
      (g) => {
        g.nodes.unshift({ op: 'Identity', inputs: ['b0'], outputs: ['unused'] });
      },
    ],
    [
      'Transpose before the weights, and Cast around the network',
      (g) => {
        const gemm = nodeOf(g, 'Gemm', 1);
        gemm.attributes = {};
        gemm.inputs[1] = 'turned';
        g.nodes.unshift({ op: 'Transpose', inputs: ['w2'], outputs: ['turned'], attributes: { perm: [1, 0] } });
        g.nodes.push({ op: 'Cast', inputs: g.outputs, outputs: ['y'], attributes: { to: 1 } });
        g.outputs = ['y'];
      },
    ],
    ['Flatten again', (g) => insertAfter(g, 6, { op: 'Flatten' })],
    [
      'an average pool that was adaptive',
      (g) => {
        const pool = nodeOf(g, 'GlobalAveragePool');
        pool.op = 'AveragePool';
        pool.attributes = { kernel_shape: [3, 3], strides: [3, 3] };
      },
    ],
    [
      'Reshape',
      (g) => {
        const flatten = nodeOf(g, 'Flatten');
        flatten.op = 'Reshape';
        flatten.attributes = {};
        flatten.inputs.push('shape');
        g.tensors.shape = { dims: [2], type: 7, field: 7, varints: [-1, 2] };
      },
    ],
  ])('with %s', async (_, change) => {
    expect((await readFloats(changed(change))).size).toBe(8);
  });
});

describe('a graph that is no VGG', () => {
  const attribute =
    (op: string, name: string, value: never | unknown, index = 0) =>
    (graph: GraphSpec): void => {
      const node = nodeOf(graph, op, index);
      node.attributes = { ...node.attributes, [name]: value as never };
    };
  test.each<[string, (graph: GraphSpec) => void, RegExp]>([
    ['another operator', (g) => insertAfter(g, 2, { op: 'Sigmoid', name: 'act' }), /node 3 'act' \(Sigmoid\)/],
    [
      'another domain',
      (g) => insertAfter(g, 2, { op: 'Relu', domain: 'com.x' }),
      /expected Conv, MaxPool.*got node 3 \(com.x.Relu\)/,
    ],
    [
      'another kernel',
      (g) => {
        (g.tensors.w0 as { dims: number[] }).dims = [4, 1, 3, 3];
      },
      /classifier|inputs|channels/,
    ],
    [
      'a 1×1 kernel',
      (g) => {
        g.tensors.w0 = { dims: [2, 2, 1, 1], data: new Uint8Array(16) };
      },
      /weight of shape \[out, in, 3, 3\], got \[2, 2, 1, 1\]/,
    ],
    [
      'kernel_shape',
      attribute('Conv', 'kernel_shape', [5, 5]),
      /node 0 \(Conv\): expected kernel_shape \[3, 3\], got \[5, 5\]/,
    ],
    ['a stride', attribute('Conv', 'strides', [2, 2]), /expected strides \[1, 1\], got \[2, 2\]/],
    ['groups', attribute('Conv', 'group', 2), /expected group 1, got 2/],
    ['dilation', attribute('Conv', 'dilations', [2, 2]), /expected dilations \[1, 1\], got \[2, 2\]/],
    ['no padding', attribute('Conv', 'pads', [0, 0, 0, 0]), /expected pads \[1, 1, 1, 1\], got \[0, 0, 0, 0\]/],
    ['auto_pad VALID', attribute('Conv', 'auto_pad', 'VALID'), /expected pads \[1, 1, 1, 1\], got auto_pad 'VALID'/],
    [
      'an attribute of another name',
      attribute('Gemm', 'TransB', 1),
      /node 5 \(Gemm\): it has no attribute 'TransB'; the nearest is 'transB'/,
    ],
    [
      'an attribute of another type',
      attribute('Gemm', 'transB', { float: 1 }),
      /its attribute 'transB' must be integer/,
    ],
    [
      'two producers of a name',
      (g) => {
        nodeOf(g, 'MaxPool').outputs = ['v1'];
      },
      /node 2 \(MaxPool\) and node 1 \(Relu\) both make 'v1'/,
    ],
    [
      'a node that makes an initializer',
      (g) => {
        g.nodes.push({ op: 'Relu', inputs: ['v2'], outputs: ['w0'] });
      },
      /makes 'w0', which is an input or initializer/,
    ],
    [
      'a branch by way of Shape that goes nowhere',
      (g) => {
        g.nodes.push({ op: 'Shape', inputs: ['v2'], outputs: ['dangling'] });
      },
      /node 10 \(Shape\) depends on the input and is not a part of the chain/,
    ],
    [
      'weights that are computed',
      (g) => {
        nodeOf(g, 'Conv').inputs[1] = 'v3';
      },
      /weight as an initializer, got what node 3 \(GlobalAveragePool\) makes/,
    ],
    [
      'no Relu',
      (g) => {
        nodeOf(g, 'Relu').op = 'Identity';
      },
      /expected Relu or BatchNormalization, got node 2 \(MaxPool\)/,
    ],
    [
      'no Relu between linear layers',
      (g) => {
        nodeOf(g, 'Relu', 1).op = 'Identity';
      },
      /expected Relu, Softmax or the end, got node 7 \(Gemm\)/,
    ],
    [
      'pool size',
      attribute('MaxPool', 'kernel_shape', [3, 3]),
      /node 2 \(MaxPool\): expected kernel_shape \[2, 2\], got \[3, 3\]/,
    ],
    ['pool padding', attribute('MaxPool', 'pads', [1, 1, 1, 1]), /expected pads \[0, 0, 0, 0\], got/],
    ['ceil_mode', attribute('MaxPool', 'ceil_mode', 1), /expected ceil_mode 0, got 1/],
    [
      'a pool that overlaps',
      (g) => {
        const n = nodeOf(g, 'GlobalAveragePool');
        n.op = 'AveragePool';
        n.attributes = { kernel_shape: [3, 3], strides: [1, 1] };
      },
      /expected strides \[3, 3\], got \[1, 1\]/,
    ],
    ['Flatten of another axis', attribute('Flatten', 'axis', 2), /expected axis 1, got 2/],
    ['alpha', attribute('Gemm', 'alpha', { float: 2 }), /expected alpha 1, got 2/],
    ['transA', attribute('Gemm', 'transA', 1), /expected transA 0, got 1/],
    [
      'two linear layers',
      (g) => {
        g.nodes.splice(-2);
        g.outputs = [g.nodes.at(-1)?.outputs[0] as string];
      },
      /expected three linear layers, got 2/,
    ],
    [
      'four linear layers',
      (g) => insertAfter(g, 9, { op: 'Gemm', inputs: ['w2', 'b2'], attributes: { transB: 1 } }),
      /expected Relu, Softmax or the end, got node 10 \(Gemm\)/,
    ],
    [
      'another width',
      (g) => {
        g.tensors.w2 = { dims: [2, 3], data: new Uint8Array(24) };
      },
      /expected a bias of 2, got \[3\]/,
    ],
    [
      'inputs that are no grid',
      (g) => {
        g.tensors.w1 = { dims: [3, 3], data: new Uint8Array(36) };
      },
      /expected 2 channels times a square of inputs, got 3/,
    ],
    [
      'a residual',
      (g) => insertAfter(g, 2, { op: 'Add', inputs: ['v1'] }),
      /expected a chain, got 'v1' going into node 2 \(MaxPool\) and node 3 \(Add\)/,
    ],
    [
      'a second output',
      (g) => {
        g.outputs.push('v1');
      },
      /expected one output, 'v9', got 'v9', 'v1'/,
    ],
    [
      'two inputs',
      (g) => {
        g.inputs.push('y');
      },
      /expected one input, got 2/,
    ],
    [
      'no nodes',
      (g) => {
        g.nodes = [];
      },
      /expected Conv or MaxPool after the input, got the end/,
    ],
    [
      'a loop',
      (g) => {
        (g.nodes[0] as NodeSpec).outputs = ['x'];
      },
      /makes 'x', which is an input/,
    ],
    [
      'a Reshape elsewhere',
      (g) => {
        const n = nodeOf(g, 'Flatten');
        n.op = 'Reshape';
        n.attributes = {};
        n.inputs.push('s');
        g.tensors.s = { dims: [3], type: 7, field: 7, varints: [-1, 2, 1] };
      },
      /expected \[N, features\], got \[-1, 2, 1\]/,
    ],
    [
      'a Reshape to another width',
      (g) => {
        const n = nodeOf(g, 'Flatten');
        n.op = 'Reshape';
        n.attributes = {};
        n.inputs.push('s');
        g.tensors.s = { dims: [2], type: 7, field: 7, varints: [-1, 4] };
      },
      /expected 4 inputs, which Reshape makes, got 2/,
    ],
  ])('%s', async (_, change, message) => {
    await expectBad(changed(change), message, { code: 'WEIGHTS_MISMATCH' });
  });

  test.each<[string, (graph: GraphSpec) => void, RegExp]>([
    ['epsilon', attribute('BatchNormalization', 'epsilon', { float: 2 }), /expected an epsilon from 0 to 1, got 2/],
    ['training', attribute('BatchNormalization', 'training_mode', 1), /expected training_mode 0, got 1/],
    [
      'batch norm twice',
      (g) => insertAfter(g, 1, { op: 'BatchNormalization', inputs: ['scale', 'shift', 'mean', 'variance'] }),
      /got node 2 \(BatchNormalization\)/,
    ],
  ])('batch norm: %s', async (_, change, message) => {
    await expectBad(changed(change, { batchNorm: true }), message, { code: 'WEIGHTS_MISMATCH' });
  });
});

describe('a file that is refused', () => {
  test.each<[string, (graph: GraphSpec) => void, RegExp]>([
    [
      'values in another file',
      (g) => {
        g.tensors.b0 = { dims: [2], external: true };
      },
      /its values are in '', which is no file beside the model/,
    ],
    [
      'too few values',
      (g) => {
        g.tensors.b0 = { dims: [2], data: new Uint8Array(4) };
      },
      /'b0': shape \[2\] of F32 needs 8 bytes, and it has 4/,
    ],
    [
      'no values',
      (g) => {
        g.tensors.b0 = { dims: [2] };
      },
      /'b0': shape \[2\] of F32 needs 8 bytes, and it has 0/,
    ],
    [
      'a negative size',
      (g) => {
        g.tensors.b0 = { dims: [-2], data: new Uint8Array(8) };
      },
      /'b0': its shape \[-2\] is none/,
    ],
    [
      'a huge size',
      (g) => {
        g.tensors.b0 = { dims: [2 ** 52, 2], data: new Uint8Array(8) };
      },
      /'b0': its shape .* is none/,
    ],
    [
      'values of another dtype',
      (g) => {
        g.tensors.b0 = { dims: [2], type: 1, field: 10, data: new Uint8Array(8) };
      },
      /field of another dtype than F32/,
    ],
    [
      'halves that are none',
      (g) => {
        g.tensors.b0 = { dims: [2], type: 10, field: 5, varints: [1, 70_000] };
      },
      /not 16-bit integers/,
    ],
    [
      'a node of a megabyte',
      (g) => {
        nodeOf(g, 'Relu').name = 'x'.repeat(2 ** 20);
      },
      /node 1 at byte \d+ at byte \d+ has 1048576 bytes, over the limit of 65536/,
    ],
  ])('%s', async (_, change, message) => {
    await expectBad(changed(change), message, { stream: message });
  });

  test('an integer as a weight', async () => {
    const bytes = changed((g) => {
      g.tensors.b0 = { dims: [2], type: 7, data: new Uint8Array(16) };
    });
    const source = await openWeights(bytes);
    const read = source.chunks(new Set(['features.0.bias']))[Symbol.asyncIterator]();
    await expect(read.next()).rejects.toMatchObject({ code: 'INVALID_DTYPE' });
  });

  test('a file that ends at any byte', async () => {
    const bytes = makeOnnx(smallGraph());
    for (let end = 3; end < bytes.length; end += 5) {
      await expectBad(bytes.slice(0, end), /./);
    }
  });

  test('a false length costs no memory', async () => {
    const bytes = makeOnnx(smallGraph()).slice(0, 200);
    const before = process.memoryUsage().arrayBuffers;
    await expectBad(bytes, /the graph|the model/);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2e7);
  });
});
