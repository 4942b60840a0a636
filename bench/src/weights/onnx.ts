import protobuf from 'protobufjs';
import { type Layer, parametersOf } from '../../../src/program/layers.js';
import { numel } from '../../../src/tensor.js';
import { layerCosts } from '../network.js';

/*
 * A network as an ONNX file: the same values, one node a layer. The messages are those of onnx.proto, with the fields
 * that are used here.
 */

const optional = (type: string, id: number) => ({ type, id });
const repeated = (type: string, id: number) => ({ rule: 'repeated', type, id });

const messages = protobuf.Root.fromJSON({
  nested: {
    Attribute: {
      fields: {
        name: optional('string', 1),
        f: optional('float', 2),
        i: optional('int64', 3),
        ints: repeated('int64', 8),
        type: optional('int32', 20),
      },
    },
    Node: {
      fields: {
        input: repeated('string', 1),
        output: repeated('string', 2),
        name: optional('string', 3),
        opType: optional('string', 4),
        attribute: repeated('Attribute', 5),
      },
    },
    Tensor: {
      fields: { dims: repeated('int64', 1), dataType: optional('int32', 2), name: optional('string', 8) },
    },
    Dimension: { fields: { value: optional('int64', 1), param: optional('string', 2) } },
    Shape: { fields: { dim: repeated('Dimension', 1) } },
    TensorType: { fields: { elemType: optional('int32', 1), shape: optional('Shape', 2) } },
    Type: { fields: { tensorType: optional('TensorType', 1) } },
    ValueInfo: { fields: { name: optional('string', 1), type: optional('Type', 2) } },
    Graph: {
      fields: {
        node: repeated('Node', 1),
        name: optional('string', 2),
        input: repeated('ValueInfo', 11),
        output: repeated('ValueInfo', 12),
      },
    },
    OperatorSet: { fields: { domain: optional('string', 1), version: optional('int64', 2) } },
    Model: {
      fields: {
        irVersion: optional('int64', 1),
        producerName: optional('string', 2),
        opsetImport: repeated('OperatorSet', 8),
      },
    },
  },
});

/** Numbers of the fields that hold the weights: written by hand, so that no model is held in memory whole. */
const MODEL_GRAPH = 7;
const GRAPH_INITIALIZER = 5;
const TENSOR_RAW_DATA = 9;

const FLOAT = 1;
const ATTRIBUTE_FLOAT = 1;
const ATTRIBUTE_INT = 2;
const ATTRIBUTE_INTS = 7;

/**
 * The bytes of a model of inputs (N, 3, size, size), in pieces. Fields of a message may come in any order, so the
 * weights are put at the end of theirs.
 */
export function* onnxModel(model: string, values: (name: string) => Float32Array, size = 224): Generator<Uint8Array> {
  const costs = layerCosts(model, 1, size);
  const layers = costs.map(({ layer }) => layer);
  const nodes = costs.flatMap(({ layer, inShape }) => nodeOf(layer, inShape));
  let last = 'input';
  for (const node of nodes) {
    node.output = [node.name];
    if (node.opType === 'Constant') continue;
    node.input.unshift(last);
    last = node.name;
  }
  const graph = encode('Graph', {
    node: nodes,
    name: model,
    input: [valueInfo('input', ['N', 3, size, size])],
    output: [valueInfo(last, ['N', numel(costs.at(-1)?.outShape ?? [])])],
  });
  const tensors = layers.flatMap(parametersOf).map(({ name, shape }) => {
    const head = encode('Tensor', { dims: shape, dataType: FLOAT, name });
    const rawTag = lengthPrefix(TENSOR_RAW_DATA, 4 * numel(shape));
    const length = head.length + rawTag.length + 4 * numel(shape);
    return { name, head, rawTag, tag: lengthPrefix(GRAPH_INITIALIZER, length), length };
  });
  const graphLength = tensors.reduce((sum, { tag, length }) => sum + tag.length + length, graph.length);

  yield encode('Model', { irVersion: 8, producerName: 'vggnet-bench', opsetImport: [{ domain: '', version: 17 }] });
  yield lengthPrefix(MODEL_GRAPH, graphLength);
  yield graph;
  for (const { name, tag, head, rawTag } of tensors) {
    yield tag;
    yield head;
    yield rawTag;
    const { buffer, byteOffset, byteLength } = values(name);
    yield new Uint8Array(buffer, byteOffset, byteLength);
  }
}

interface Attribute {
  readonly name: string;
  readonly f?: number;
  readonly i?: number;
  readonly ints?: readonly number[];
  readonly type: number;
}

interface Node {
  readonly name: string;
  readonly opType: string;
  readonly input: string[];
  output: string[];
  readonly attribute: readonly Attribute[];
}

/** The node of a layer without the value it reads; none for what is the identity in eval mode. */
function nodeOf(layer: Layer, inShape: readonly number[]): Node[] {
  const ints = (name: string, list: number[]): Attribute => ({ name, ints: list, type: ATTRIBUTE_INTS });
  const node = (opType: string, ...attribute: Attribute[]): Node[] => [
    { name: layer.name, opType, input: parametersOf(layer).map(({ name }) => name), output: [], attribute },
  ];
  switch (layer.op) {
    case 'conv2d':
      return node('Conv', ints('kernel_shape', [3, 3]), ints('pads', [1, 1, 1, 1]), ints('strides', [1, 1]));
    case 'batchNorm2d':
      return node('BatchNormalization', { name: 'epsilon', f: 1e-5, type: ATTRIBUTE_FLOAT });
    case 'relu':
      return node('Relu');
    case 'maxPool2d':
      return node('MaxPool', ints('kernel_shape', [2, 2]), ints('strides', [2, 2]));
    case 'flatten':
      return node('Flatten', { name: 'axis', i: 1, type: ATTRIBUTE_INT });
    case 'linear':
      return node('Gemm', { name: 'transB', i: 1, type: ATTRIBUTE_INT });
    case 'adaptiveAvgPool2d': {
      const [side, grid] = [inShape[2], layer.outputSize];
      if (side === grid) return [];
      if (side !== 1)
        throw new Error(`The ONNX writer needs a last map of ${grid}×${grid} or 1×1, not ${side}×${side}`);
      // ONNX has no such pool; of one pixel it is that pixel everywhere.
      const name = `${layer.name}.shape`;
      return [
        { name, opType: 'Constant', input: [], output: [], attribute: [ints('value_ints', [1, 1, grid, grid])] },
        { name: layer.name, opType: 'Expand', input: [name], output: [], attribute: [] },
      ];
    }
    default:
      return [];
  }
}

function valueInfo(name: string, dims: readonly (number | string)[]): unknown {
  const dim = dims.map((value) => (typeof value === 'number' ? { value } : { param: value }));
  return { name, type: { tensorType: { elemType: FLOAT, shape: { dim } } } };
}

function encode(type: string, message: unknown): Uint8Array {
  const found = messages.lookupType(type);
  return found.encode(found.fromObject(message as Record<string, unknown>)).finish();
}

/** The tag of a field that is a run of bytes, and its length. */
function lengthPrefix(field: number, length: number): Uint8Array {
  return protobuf.Writer.create()
    .uint32((field << 3) | 2)
    .uint32(length)
    .finish();
}
