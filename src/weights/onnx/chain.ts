import { formatShape } from '../../tensor.js';
import { quoteName } from '../safetensors/header.js';
import type { Attributes } from './attributes.js';
import type { OnnxModel, OnnxNode } from './model.js';
import {
  attributesOf,
  describe,
  differ,
  FLOAT_TYPES,
  type OnnxWeight,
  shifted,
  WeightResolver,
  zeros,
} from './weights.js';

/*
 * A VGG is a chain: from the input each value goes into one node. It is followed, and each node is held against what
 * a VGG has in its place. Dropout, Identity and Cast between floats do nothing; what only works out a shape for Reshape
 * is passed over. A node that depends on the input and is not on the chain is refused: it would mean something else.
 * Operators: https://onnx.ai/onnx/operators/
 */

export interface ConvStep {
  readonly label: string;
  readonly weight: OnnxWeight;
  readonly bias: OnnxWeight;
  /** Scale, shift, running mean and variance. */
  norm?: readonly OnnxWeight[];
}

export interface LinearStep {
  readonly label: string;
  /** (out, in) */
  readonly weight: OnnxWeight;
  readonly bias: OnnxWeight;
}

export interface Chain {
  readonly architecture: (number | 'M')[];
  readonly convs: ConvStep[];
  readonly linears: LinearStep[];
  /** The classifier reads the grid as (height, width, channels), as TensorFlow flattens it. */
  channelsLast: boolean;
}

/** PyTorch's. */
const EPSILON = 1e-5;
const MAX_LINEARS = 16;

/** @throws VGGNetError `WEIGHTS_MISMATCH` that names the first node that a VGG does not have there */
export function walkChain(model: OnnxModel): Chain {
  return new Walk(model).run();
}

class Walk {
  readonly #model: OnnxModel;
  readonly #consumers = new Map<string, OnnxNode[]>();
  readonly #producers = new Map<string, OnnxNode>();
  readonly #weights: WeightResolver;
  readonly #chain: Chain = { architecture: [], convs: [], linears: [], channelsLast: false };
  readonly #visited = new Set<OnnxNode>();
  #phase: 'features' | 'pooled' | 'classifier' | 'done' = 'features';
  /** A convolution or linear layer whose ReLU has yet to come; after a linear one the end may. */
  #owes: 'conv' | 'linear' | undefined;
  /** A convolution that may yet have batch norm. */
  #open: ConvStep | undefined;
  /** The features that a Reshape says it makes. */
  #reshaped: number | undefined;
  /** Whether the value is (N, H, W, C). */
  #channelsLast = false;
  #node: OnnxNode | undefined;

  constructor(model: OnnxModel) {
    this.#model = model;
    for (const node of model.nodes) {
      for (const input of new Set(node.inputs)) {
        const list = this.#consumers.get(input) ?? [];
        list.push(node);
        this.#consumers.set(input, list);
      }
      for (const output of node.outputs) {
        if (output === '') continue;
        const other = this.#producers.get(output);
        if (other) differ(`${describe(node)} and ${describe(other)} both make ${quoteName(output)}`);
        if (model.tensors.has(output) || model.inputs.includes(output)) {
          differ(`${describe(node)} makes ${quoteName(output)}, which is an input or initializer`);
        }
        this.#producers.set(output, node);
      }
    }
    this.#weights = new WeightResolver(model, this.#producers);
  }

  run(): Chain {
    const { inputs, outputs, tensors, nodes } = this.#model;
    const data = inputs.filter((name) => !tensors.has(name));
    if (data.length !== 1) differ(`expected one input, got ${data.length}`);
    let value = data[0] as string;
    for (let steps = 0; steps <= nodes.length; steps++) {
      const next = (this.#consumers.get(value) ?? []).filter((node) => node.op !== 'Shape');
      const [node] = next;
      if (!node) break;
      this.#node = node;
      if (next.length > 1) {
        differ(`expected a chain, got ${quoteName(value)} going into ${next.slice(0, 3).map(describe).join(' and ')}`);
      }
      this.#visited.add(node);
      value = this.#step(node, value);
    }
    if (this.#owes === 'conv' || this.#chain.linears.length === 0) {
      differ(`expected ${this.#expected()} after ${this.#node ? describe(this.#node) : 'the input'}, got the end`);
    }
    if (outputs.length !== 1 || outputs[0] !== value) {
      differ(`expected one output, ${quoteName(value)}, got ${outputs.slice(0, 3).map(quoteName).join(', ')}`);
    }
    this.#refuseOthers(data[0] as string);
    return this.#chain;
  }

  /** Nodes that the walk did not come by may make constants that nobody uses, and nothing else. */
  #refuseOthers(input: string): void {
    const depending = new Set([input]);
    const queue = [input];
    for (let value = queue.pop(); value !== undefined; value = queue.pop()) {
      for (const node of this.#consumers.get(value) ?? []) {
        if (!this.#visited.has(node) && !this.#weights.used.has(node)) {
          differ(`${describe(node)} depends on the input and is not a part of the chain from it to the output`);
        }
        for (const output of node.outputs) {
          if (depending.has(output)) continue;
          depending.add(output);
          queue.push(output);
        }
      }
    }
  }

  /** Takes one node, and gives the value that it makes. */
  #step(node: OnnxNode, value: string): string {
    const at = attributesOf(node);
    if (node.inputs[0] !== value && !NORMALIZING.has(node.op)) {
      differ(`${describe(node)}: expected ${quoteName(value)} as its first input`);
    }
    const most = NORMALIZING.has(node.op) ? 2 : (MAX_INPUTS.get(node.op) ?? 1);
    if (node.inputs.length > most)
      differ(`${describe(node)}: expected at most ${most} inputs, got ${node.inputs.length}`);
    switch (node.op) {
      case 'Conv':
        this.#conv(node, at);
        break;
      case 'BatchNormalization':
        this.#batchNorm(node, at);
        break;
      case 'Relu':
        this.#accept(node, this.#owes !== undefined);
        this.#owes = undefined;
        this.#open = undefined;
        break;
      case 'MaxPool':
        this.#accept(node, this.#phase === 'features' && !this.#owes && !this.#channelsLast);
        checkMaxPool(at);
        this.#chain.architecture.push('M');
        break;
      case 'AveragePool':
      case 'GlobalAveragePool':
      case 'ReduceMean':
        this.#averagePool(node, at);
        break;
      case 'Transpose':
        this.#transpose(node, at);
        break;
      case 'Flatten':
      case 'Reshape':
        this.#accept(node, this.#phase !== 'done' && !this.#owes && this.#chain.convs.length > 0);
        if (node.op === 'Flatten') at.expectInteger('axis', 1, 1);
        else this.#reshape(node, at);
        this.#startClassifier();
        break;
      case 'Gemm':
        this.#linear(node, this.#gemm(node, at));
        break;
      case 'MatMul':
        return this.#matMul(node);
      case 'Softmax':
      case 'LogSoftmax':
        this.#accept(node, this.#phase === 'classifier' && this.#owes === 'linear');
        if (![1, -1].includes(at.integer('axis', 1))) at.expectInteger('axis', 1, 1);
        this.#phase = 'done';
        break;
      case 'Cast':
        if (!FLOAT_TYPES.includes(at.integer('to', 0))) differ(`${describe(node)}: expected a cast to floats`);
        break;
      case 'Dropout':
        this.#checkDropout(node);
        break;
      case 'Identity':
        break;
      default:
        this.#accept(node, false);
    }
    return node.outputs[0] || differ(`${describe(node)}: expected an output`);
  }

  #accept(node: OnnxNode, right: boolean): void {
    if (right) return;
    if (NORMALIZING.has(node.op) && this.#chain.convs.length === 0) {
      differ(
        `${describe(node)} prepares the input. Export the model without its normalization, and give mean and std as a preset`,
      );
    }
    if (END.has(node.op) && this.#owes === 'linear') {
      differ(`${describe(node)} follows the logits. Export the model without it: forward gives the logits`);
    }
    differ(`expected ${this.#expected()}, got ${describe(node)}`);
  }

  /** What a VGG may have next. */
  #expected(): string {
    if (this.#owes === 'conv') return this.#open && !this.#open.norm ? 'Relu or BatchNormalization' : 'Relu';
    if (this.#owes === 'linear') return 'Relu, Softmax or the end';
    if (this.#phase === 'features') {
      return this.#chain.convs.length > 0 ? 'Conv, MaxPool, an average pool, Flatten or Gemm' : 'Conv or MaxPool';
    }
    if (this.#phase === 'pooled') return 'Flatten';
    return this.#phase === 'done' ? 'the end' : 'Gemm or MatMul';
  }

  #conv(node: OnnxNode, at: Attributes): void {
    this.#accept(node, this.#phase === 'features' && !this.#owes && !this.#channelsLast);
    const [, weightName = '', biasName = ''] = node.inputs;
    const weight = this.#weights.resolve(weightName, node, 'weight');
    const [outChannels = 0, , height, width] = weight.shape;
    if (weight.shape.length !== 4 || height !== 3 || width !== 3) {
      differ(`${describe(node)}: expected a weight of shape [out, in, 3, 3], got ${formatShape(weight.shape)}`);
    }
    at.expectIntegers('kernel_shape', [3, 3], [3, 3]);
    at.expectIntegers('strides', [1, 1], [1, 1]);
    at.expectIntegers('dilations', [1, 1], [1, 1]);
    at.expectInteger('group', 1, 1);
    if (!at.isSamePadding()) at.expectIntegers('pads', [1, 1, 1, 1], [0, 0, 0, 0]);
    const bias = biasName === '' ? zeros('no bias', outChannels) : this.#weights.resolve(biasName, node, 'bias');
    this.#open = { label: describe(node), weight, bias };
    this.#chain.convs.push(this.#open);
    this.#chain.architecture.push(outChannels);
    this.#owes = 'conv';
  }

  #batchNorm(node: OnnxNode, at: Attributes): void {
    const conv = this.#open;
    this.#accept(node, conv !== undefined && !conv.norm);
    at.expectInteger('training_mode', 0, 0);
    at.expectInteger('spatial', 1, 1);
    const epsilon = at.float('epsilon', EPSILON);
    if (!(epsilon >= 0 && epsilon <= 1)) differ(`${describe(node)}: expected an epsilon from 0 to 1, got ${epsilon}`);
    const what = ['scale', 'shift', 'mean', 'variance'];
    const norm = what.map((name, i) => this.#weights.resolve(node.inputs[i + 1] ?? '', node, name));
    if (Math.fround(epsilon) !== Math.fround(EPSILON)) {
      // Another epsilon is a variance that is so much larger.
      const variance = norm[3] as OnnxWeight;
      if (variance.dtype !== 'F32') at.expectFloat('epsilon', EPSILON, EPSILON);
      norm[3] = shifted(variance, epsilon - EPSILON);
    }
    (conv as ConvStep).norm = norm;
  }

  #averagePool(node: OnnxNode, at: Attributes): void {
    this.#accept(node, this.#phase === 'features' && !this.#owes && this.#chain.convs.length > 0);
    if (node.op === 'AveragePool') checkAveragePool(at);
    this.#phase = 'pooled';
    if (node.op !== 'ReduceMean') return;
    const axes =
      node.inputs[1] === undefined ? at.integers('axes', []) : (this.#weights.integers(node.inputs[1]) ?? []);
    const wanted = this.#channelsLast ? [1, 2] : [2, 3];
    const got = axes.map((axis) => (axis < 0 ? axis + 4 : axis)).sort();
    if (got.join() !== wanted.join()) differ(`${describe(node)}: expected the mean of height and width`);
    if (at.integer('keepdims', 1) === 0) {
      this.#channelsLast = false;
      this.#startClassifier();
    }
  }

  /** Between (N, H, W, C), TensorFlow's order, and (N, C, H, W). */
  #transpose(node: OnnxNode, at: Attributes): void {
    const order = at.integers('perm', []).join();
    const first = this.#chain.architecture.length === 0;
    if (order === '0,3,1,2' && (first || this.#channelsLast)) this.#channelsLast = false;
    else if (order === '0,2,3,1' && !this.#owes && !first && this.#phase !== 'classifier') this.#channelsLast = true;
    else this.#accept(node, false);
  }

  #startClassifier(): void {
    this.#phase = 'classifier';
    this.#chain.channelsLast ||= this.#channelsLast && this.#chain.linears.length === 0;
    this.#channelsLast = false;
  }

  /** In evaluation it does nothing, unless a third input says that this is training. */
  #checkDropout(node: OnnxNode): void {
    if (this.#chain.convs.length === 0) this.#accept(node, false);
    for (const name of node.inputs.slice(1)) {
      const producer = this.#producers.get(name);
      if (producer) this.#weights.used.add(producer);
    }
  }

  #gemm(node: OnnxNode, at: Attributes): Pick<LinearStep, 'weight' | 'bias'> {
    at.expectFloat('alpha', 1, 1);
    at.expectInteger('transA', 0, 0);
    const [, weightName = '', biasName = ''] = node.inputs;
    const weight = this.#linearWeight(weightName, node, at.integer('transB', 0) === 0);
    if (biasName === '') return { weight, bias: zeros('no bias', weight.shape[0] as number) };
    at.expectFloat('beta', 1, 1);
    return { weight, bias: this.#weights.resolve(biasName, node, 'bias') };
  }

  /** MatMul and the Add behind it, if there is one; gives the value that they make. */
  #matMul(node: OnnxNode): string {
    const product = node.outputs[0] || differ(`${describe(node)}: expected an output`);
    const weight = this.#linearWeight(node.inputs[1] ?? '', node, true);
    const [add, ...others] = this.#consumers.get(product) ?? [];
    if (add?.op !== 'Add' || others.length > 0) {
      this.#linear(node, { weight, bias: zeros('no bias', weight.shape[0] as number) });
      return product;
    }
    attributesOf(add);
    const names = add.inputs.filter((name) => name !== product);
    if (add.inputs.length !== 2 || names.length !== 1) differ(`${describe(add)}: expected the product and a bias`);
    this.#linear(node, { weight, bias: this.#weights.resolve(names[0] as string, add, 'bias') });
    this.#node = add;
    this.#visited.add(add);
    return add.outputs[0] || differ(`${describe(add)}: expected an output`);
  }

  #linearWeight(name: string, node: OnnxNode, transposed: boolean): OnnxWeight {
    const weight = this.#weights.resolve(name, node, 'weight');
    const { shape, layout } = weight;
    if (shape.length !== 2) differ(`${describe(node)}: expected a weight of two dimensions, got ${formatShape(shape)}`);
    if (!transposed) return weight;
    const dims = layout.dims.toReversed();
    return { ...weight, shape: shape.toReversed(), layout: { ...layout, dims, strides: layout.strides.toReversed() } };
  }

  #linear(node: OnnxNode, step: Pick<LinearStep, 'weight' | 'bias'>): void {
    const { convs, linears } = this.#chain;
    // Without Flatten where the exporter knew that a grid of one value is flat.
    const flat =
      this.#phase === 'classifier' || ((this.#phase === 'pooled' || this.#phase === 'features') && !this.#channelsLast);
    this.#accept(node, flat && !this.#owes && linears.length < MAX_LINEARS && convs.length > 0);
    this.#phase = 'classifier';
    const [outFeatures = 0, inFeatures = 0] = step.weight.shape;
    if (this.#reshaped !== undefined && this.#reshaped !== inFeatures) {
      differ(`${describe(node)}: expected ${this.#reshaped} inputs, which Reshape makes, got ${inFeatures}`);
    }
    this.#reshaped = undefined;
    const { shape } = step.bias;
    if (shape.at(-1) !== outFeatures || shape.slice(0, -1).some((size) => size !== 1)) {
      differ(`${describe(node)}: expected a bias of ${outFeatures}, got ${formatShape(shape)}`);
    }
    linears.push({ label: describe(node), weight: step.weight, bias: flattened(step.bias) });
    this.#owes = 'linear';
  }

  /** To (N, features). Where the shape is worked out from the input's, PyTorch's `view(x.size(0), -1)` is. */
  #reshape(node: OnnxNode, at: Attributes): void {
    at.expectInteger('allowzero', 0, 0);
    const [, name] = node.inputs;
    const shape = name === undefined ? at.integers('shape', []) : this.#weights.integers(name);
    if (!shape) {
      if (this.#visitShape(name as string)) return;
      differ(`${describe(node)}: expected a shape that is known`);
    }
    const [, features = 0] = shape;
    if (shape.length !== 2) differ(`${describe(node)}: expected [N, features], got [${shape.slice(0, 8).join(', ')}]`);
    if (features > 0) this.#reshaped = features;
  }

  /** Visits the nodes that work a shape out; false if there are others among them. */
  #visitShape(name: string): boolean {
    const queue = [name];
    for (let value = queue.pop(); value !== undefined; value = queue.pop()) {
      const node = this.#producers.get(value);
      if (!node || this.#visited.has(node)) {
        if (value === name) return false;
        continue;
      }
      if (!SHAPE_OPS.has(node.op)) return false;
      attributesOf(node);
      this.#visited.add(node);
      // What Shape looks at is on the chain.
      if (node.op !== 'Shape') queue.push(...node.inputs);
    }
    return true;
  }
}

const SHAPE_OPS: ReadonlySet<string> = new Set([
  'Cast',
  'Concat',
  'Constant',
  'Gather',
  'Identity',
  'Shape',
  'Slice',
  'Squeeze',
  'Unsqueeze',
]);
/** Of operators that take more than one input. */
const MAX_INPUTS: ReadonlyMap<string, number> = new Map([
  ['BatchNormalization', 5],
  ['Conv', 3],
  ['Dropout', 3],
  ['Gemm', 3],
  ['MatMul', 2],
  ['ReduceMean', 2],
  ['Reshape', 2],
]);
const NORMALIZING: ReadonlySet<string> = new Set(['Add', 'Div', 'Mul', 'Sub']);
const END: ReadonlySet<string> = new Set(['ArgMax', 'Sigmoid', 'TopK']);

function flattened(bias: OnnxWeight): OnnxWeight {
  const { layout, shape } = bias;
  return {
    ...bias,
    shape: shape.slice(-1),
    layout: { ...layout, dims: layout.dims.slice(-1), strides: layout.strides.slice(-1) },
  };
}

function checkMaxPool(at: Attributes): void {
  at.expectIntegers('kernel_shape', [2, 2], []);
  at.expectIntegers('strides', [2, 2], [1, 1]);
  at.expectIntegers('dilations', [1, 1], [1, 1]);
  at.expectNoPadding();
  at.expectInteger('ceil_mode', 0, 0);
}

/** An adaptive pool that was exported for one input size: its kernel is its stride. */
function checkAveragePool(at: Attributes): void {
  const kernel = at.integers('kernel_shape', []);
  at.expectIntegers('strides', kernel, [1, 1]);
  at.expectIntegers('dilations', [1, 1], [1, 1]);
  at.expectNoPadding();
  at.expectInteger('ceil_mode', 0, 0);
}
