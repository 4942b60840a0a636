import { PbfWriter } from 'pbf';

/* ONNX files of small graphs, right or wrong. */

export type AttributeValue =
  | number
  | string
  | readonly number[]
  | { readonly float: number }
  | { readonly tensor: TensorSpec };

export interface NodeSpec {
  op: string;
  inputs: string[];
  outputs: string[];
  attributes?: Record<string, AttributeValue>;
  name?: string;
  domain?: string;
}

export interface TensorSpec {
  dims: readonly number[];
  type?: number;
  /** Field of the values: 9 for raw_data. */
  field?: number;
  data?: Uint8Array;
  /** Written one after another as varints into `field`. */
  varints?: readonly number[];
  /** In another file, with these fields. */
  external?: boolean | Readonly<Record<string, string>>;
}

export interface GraphSpec {
  nodes: NodeSpec[];
  tensors: Record<string, TensorSpec>;
  inputs: string[];
  outputs: string[];
}

const encoder = new TextEncoder();

function writeAttribute([name, value]: readonly [string, AttributeValue], pbf: PbfWriter): void {
  pbf.writeStringField(1, name);
  if (typeof value === 'number') pbf.writeVarintField(3, value);
  else if (typeof value === 'string') pbf.writeBytesField(4, encoder.encode(value));
  else if ('float' in value) pbf.writeFloatField(2, value.float);
  else if ('tensor' in value) pbf.writeMessage(5, writeTensor, ['', value.tensor]);
  else for (const item of value) pbf.writeVarintField(8, item);
}

function writeNode(node: NodeSpec, pbf: PbfWriter): void {
  for (const input of node.inputs) pbf.writeStringField(1, input);
  for (const output of node.outputs) pbf.writeStringField(2, output);
  pbf.writeStringField(3, node.name ?? '');
  pbf.writeStringField(4, node.op);
  for (const entry of Object.entries(node.attributes ?? {})) pbf.writeMessage(5, writeAttribute, entry);
  if (node.domain) pbf.writeStringField(7, node.domain);
}

function writeTensor([name, tensor]: readonly [string, TensorSpec], pbf: PbfWriter): void {
  const { dims, type = 1, field = 9, data, varints, external } = tensor;
  for (const size of dims) pbf.writeVarintField(1, size);
  pbf.writeVarintField(2, type);
  pbf.writeStringField(8, name);
  if (varints) pbf.writePackedVarint(field, [...varints]);
  else if (data) pbf.writeBytesField(field, data);
  if (typeof external === 'object') {
    for (const entry of Object.entries(external)) pbf.writeMessage(13, writePair, entry);
  }
  if (external) pbf.writeVarintField(14, 1);
}

function writePair([key, value]: readonly [string, string], pbf: PbfWriter): void {
  pbf.writeStringField(1, key);
  pbf.writeStringField(2, value);
}

function writeValue(name: string, pbf: PbfWriter): void {
  pbf.writeStringField(1, name);
}

function writeGraph(graph: GraphSpec, pbf: PbfWriter): void {
  for (const node of graph.nodes) pbf.writeMessage(1, writeNode, node);
  pbf.writeStringField(2, 'g');
  for (const entry of Object.entries(graph.tensors)) pbf.writeMessage(5, writeTensor, entry);
  for (const name of graph.inputs) pbf.writeMessage(11, writeValue, name);
  for (const name of graph.outputs) pbf.writeMessage(12, writeValue, name);
}

export function makeOnnx(graph: GraphSpec): Uint8Array<ArrayBuffer> {
  const pbf = new PbfWriter();
  pbf.writeVarintField(1, 8);
  pbf.writeStringField(2, 'a test');
  pbf.writeMessage(7, writeGraph, graph);
  return new Uint8Array(pbf.finish());
}

/** [2, 'M'] with batch norm or without: two inputs, poolSize 1, three hidden features, four classes. */
export function smallGraph({ batchNorm = false }: { batchNorm?: boolean } = {}): GraphSpec {
  const shapes: Record<string, number[]> = {
    w0: [2, 2, 3, 3],
    b0: [2],
    w1: [3, 2],
    b1: [3],
    w2: [3, 3],
    b2: [3],
    w3: [4, 3],
    b3: [4],
    ...(batchNorm && { scale: [2], shift: [2], mean: [2], variance: [2] }),
  };
  const tensors: Record<string, TensorSpec> = {};
  let value = 0;
  for (const [name, dims] of Object.entries(shapes)) {
    const data = Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => ++value);
    tensors[name] = { dims, data: new Uint8Array(data.buffer) };
  }
  const conv = { kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [1, 1], dilations: [1, 1], group: 1 };
  const nodes: NodeSpec[] = [];
  const add = (op: string, more: string[] = [], attributes: Record<string, AttributeValue> = {}): void => {
    const from = nodes.length === 0 ? 'x' : `v${nodes.length - 1}`;
    nodes.push({ op, inputs: [from, ...more], outputs: [`v${nodes.length}`], attributes });
  };
  add('Conv', ['w0', 'b0'], conv);
  if (batchNorm) add('BatchNormalization', ['scale', 'shift', 'mean', 'variance'], { epsilon: { float: 1e-5 } });
  add('Relu');
  add('MaxPool', [], { kernel_shape: [2, 2], strides: [2, 2] });
  add('GlobalAveragePool');
  add('Flatten', [], { axis: 1 });
  for (const i of [1, 2, 3]) {
    add('Gemm', [`w${i}`, `b${i}`], { transB: 1, alpha: { float: 1 }, beta: { float: 1 } });
    if (i < 3) add('Relu');
  }
  return { nodes, tensors, inputs: ['x'], outputs: [`v${nodes.length - 1}`] };
}
