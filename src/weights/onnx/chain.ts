import { VGGNetError } from '../../errors.js';
import { formatShape } from '../../tensor.js';
import { quoteName } from '../safetensors/header.js';
import { Attributes } from './attributes.js';
import type { OnnxModel, OnnxNode, OnnxTensor } from './model.js';

/*
 * A VGG is a chain: from the input each value goes into one node. It is followed, and each node is held against what
 * a VGG has in its place. Dropout and Identity do nothing; what only works out a shape for Reshape is passed over.
 * Operators: https://onnx.ai/onnx/operators/
 */

export interface ConvStep {
  readonly label: string;
  readonly weight: OnnxTensor;
  readonly bias: OnnxTensor;
  /** Scale, shift, running mean and variance. */
  norm?: readonly OnnxTensor[];
}

export interface LinearStep {
  readonly label: string;
  readonly weight: OnnxTensor;
  readonly bias: OnnxTensor;
  /** The file's weight is (in, out). */
  readonly transposed: boolean;
  readonly inFeatures: number;
  readonly outFeatures: number;
}

export interface Chain {
  readonly architecture: (number | 'M')[];
  readonly convs: ConvStep[];
  readonly linears: LinearStep[];
}

const LINEAR_LAYERS = 3;
/** PyTorch's, to within float32. */
const EPSILON = 1e-5;

/** @throws VGGNetError `WEIGHTS_MISMATCH` that names the first node that a VGG does not have there */
export function walkChain(model: OnnxModel): Chain {
  return new Walk(model).run();
}

class Walk {
  readonly #model: OnnxModel;
  readonly #consumers = new Map<string, OnnxNode[]>();
  readonly #producers = new Map<string, OnnxNode>();
  readonly #chain: Chain = { architecture: [], convs: [], linears: [] };
  #phase: 'features' | 'pooled' | 'classifier' | 'done' = 'features';
  /** What must come next; undefined if it may be several things. */
  #owes: 'Relu' | undefined;
  /** A convolution that may yet have batch norm. */
  #open: ConvStep | undefined;
  /** The features that a Reshape says it makes. */
  #reshaped: number | undefined;
  #node: OnnxNode | undefined;

  constructor(model: OnnxModel) {
    this.#model = model;
    for (const node of model.nodes) {
      for (const input of new Set(node.inputs)) {
        const list = this.#consumers.get(input) ?? [];
        list.push(node);
        this.#consumers.set(input, list);
      }
      for (const output of node.outputs) this.#producers.set(output, node);
    }
  }

  run(): Chain {
    const { inputs, outputs, tensors } = this.#model;
    const data = inputs.filter((name) => !tensors.has(name));
    if (data.length !== 1) differ(`expected one input, got ${data.length}`);
    let value = data[0] as string;
    for (let steps = 0; steps <= this.#model.nodes.length; steps++) {
      const next = (this.#consumers.get(value) ?? []).filter((node) => node.op !== 'Shape');
      const [node] = next;
      if (!node) break;
      this.#node = node;
      if (next.length > 1) {
        differ(`expected a chain, got ${quoteName(value)} going into ${next.slice(0, 3).map(describe).join(' and ')}`);
      }
      value = this.#step(node, value);
    }
    const { length } = this.#chain.linears;
    if (length < LINEAR_LAYERS || this.#owes) {
      differ(`expected ${this.#expected()} after ${this.#node ? describe(this.#node) : 'the input'}, got the end`);
    }
    if (outputs.length !== 1 || outputs[0] !== value) {
      differ(`expected one output, ${quoteName(value)}, got ${outputs.slice(0, 3).map(quoteName).join(', ')}`);
    }
    return this.#chain;
  }

  /** Takes one node, and gives the value that it makes. */
  #step(node: OnnxNode, value: string): string {
    const at = new Attributes(node, (what) => differ(`${describe(node)}: ${what}`));
    switch (node.op) {
      case 'Conv':
        this.#conv(node, at);
        break;
      case 'BatchNormalization':
        this.#batchNorm(node, at);
        break;
      case 'Relu':
        this.#accept(node, this.#owes === 'Relu');
        this.#owes = undefined;
        this.#open = undefined;
        break;
      case 'MaxPool':
        this.#accept(node, this.#phase === 'features' && !this.#owes);
        checkMaxPool(at);
        this.#chain.architecture.push('M');
        break;
      case 'AveragePool':
      case 'GlobalAveragePool':
        this.#accept(node, this.#phase === 'features' && !this.#owes && this.#chain.convs.length > 0);
        if (node.op === 'AveragePool') checkAveragePool(at);
        this.#phase = 'pooled';
        break;
      case 'Flatten':
      case 'Reshape':
        this.#accept(node, this.#phase !== 'done' && !this.#owes && this.#chain.convs.length > 0);
        if (node.op === 'Flatten') at.expectInteger('axis', 1, 1);
        else this.#reshape(node);
        this.#phase = 'classifier';
        break;
      case 'Gemm':
        this.#linear(node, this.#gemm(node, at));
        break;
      case 'MatMul':
        return this.#matMul(node);
      case 'Softmax':
        this.#accept(node, this.#phase === 'classifier' && this.#chain.linears.length === LINEAR_LAYERS);
        this.#phase = 'done';
        break;
      case 'Dropout':
      case 'Identity':
        break;
      default:
        this.#accept(node, false);
    }
    if (node.inputs[0] !== value) differ(`${describe(node)}: expected ${quoteName(value)} as its first input`);
    return node.outputs[0] ?? differ(`${describe(node)}: expected an output`);
  }

  #accept(node: OnnxNode, right: boolean): void {
    if (!right) differ(`expected ${this.#expected()}, got ${describe(node)}`);
  }

  /** What a VGG may have next. */
  #expected(): string {
    if (this.#owes) return this.#open ? 'Relu or BatchNormalization' : this.#owes;
    if (this.#phase === 'features') {
      return this.#chain.convs.length > 0 ? 'Conv, MaxPool, an average pool or Flatten' : 'Conv or MaxPool';
    }
    if (this.#phase === 'pooled') return 'Flatten';
    return this.#chain.linears.length < LINEAR_LAYERS ? 'Gemm or MatMul' : 'Softmax or the end';
  }

  #conv(node: OnnxNode, at: Attributes): void {
    this.#accept(node, this.#phase === 'features' && !this.#owes);
    const [, weightName = '', biasName = ''] = node.inputs;
    const weight = this.#tensor(weightName, node, 'weight');
    const [outChannels = 0, , height, width] = weight.dims;
    if (weight.dims.length !== 4 || height !== 3 || width !== 3) {
      differ(`${describe(node)}: expected a weight of shape [out, in, 3, 3], got ${formatShape(weight.dims)}`);
    }
    at.expectIntegers('kernel_shape', [3, 3], [3, 3]);
    at.expectIntegers('strides', [1, 1], [1, 1]);
    at.expectIntegers('dilations', [1, 1], [1, 1]);
    at.expectInteger('group', 1, 1);
    if (!at.isSamePadding()) at.expectIntegers('pads', [1, 1, 1, 1], [0, 0, 0, 0]);
    this.#open = { label: describe(node), weight, bias: this.#tensor(biasName, node, 'bias') };
    this.#chain.convs.push(this.#open);
    this.#chain.architecture.push(outChannels);
    this.#owes = 'Relu';
  }

  #batchNorm(node: OnnxNode, at: Attributes): void {
    const conv = this.#open;
    this.#accept(node, conv !== undefined && !conv.norm);
    at.expectFloat('epsilon', EPSILON, EPSILON);
    at.expectInteger('training_mode', 0, 0);
    const what = ['scale', 'shift', 'mean', 'variance'];
    (conv as ConvStep).norm = what.map((name, i) => this.#tensor(node.inputs[i + 1] ?? '', node, name));
  }

  #gemm(node: OnnxNode, at: Attributes): Pick<LinearStep, 'weight' | 'bias' | 'transposed'> {
    at.expectFloat('alpha', 1, 1);
    at.expectFloat('beta', 1, 1);
    at.expectInteger('transA', 0, 0);
    const [, weight = '', bias = ''] = node.inputs;
    return {
      weight: this.#tensor(weight, node, 'weight'),
      bias: this.#tensor(bias, node, 'bias'),
      transposed: at.integer('transB', 0) === 0,
    };
  }

  /** MatMul and the Add behind it; gives the value that Add makes. */
  #matMul(node: OnnxNode): string {
    const product = node.outputs[0] ?? '';
    const [add, ...others] = this.#consumers.get(product) ?? [];
    if (add?.op !== 'Add' || others.length > 0) {
      differ(`expected Add after ${describe(node)}, got ${add ? describe(add) : 'the end'}`);
    }
    const bias = add.inputs.find((name) => name !== product) ?? '';
    const weight = this.#tensor(node.inputs[1] ?? '', node, 'weight');
    this.#linear(node, { weight, bias: this.#tensor(bias, add, 'bias'), transposed: true });
    this.#node = add;
    return add.outputs[0] ?? differ(`${describe(add)}: expected an output`);
  }

  #linear(node: OnnxNode, step: Pick<LinearStep, 'weight' | 'bias' | 'transposed'>): void {
    const { convs, linears } = this.#chain;
    this.#accept(
      node,
      this.#phase === 'classifier' && !this.#owes && linears.length < LINEAR_LAYERS && convs.length > 0,
    );
    const { dims } = step.weight;
    if (dims.length !== 2) {
      differ(`${describe(node)}: expected a weight of two dimensions, got ${formatShape(dims)}`);
    }
    const [outFeatures = 0, inFeatures = 0] = step.transposed ? dims.toReversed() : dims;
    if (this.#reshaped !== undefined && this.#reshaped !== inFeatures) {
      differ(`${describe(node)}: expected ${this.#reshaped} inputs, which Reshape makes, got ${inFeatures}`);
    }
    this.#reshaped = undefined;
    linears.push({ ...step, label: describe(node), inFeatures, outFeatures });
    if (linears.length < LINEAR_LAYERS) this.#owes = 'Relu';
  }

  /** To (N, features). Where the shape is worked out from the input's, PyTorch's `view(x.size(0), -1)` is. */
  #reshape(node: OnnxNode): void {
    const name = node.inputs[1] ?? '';
    const producer = this.#producers.get(name);
    const shape =
      this.#model.tensors.get(name)?.integers ??
      (producer?.op === 'Constant' ? producer.attributes.get('value')?.tensor : undefined);
    if (!shape) {
      if (producer && SHAPE_OPS.has(producer.op)) return;
      differ(`${describe(node)}: expected a shape that is known`);
    }
    const [, features = 0] = shape;
    if (shape.length !== 2) differ(`${describe(node)}: expected [N, features], got [${shape.join(', ')}]`);
    if (features > 0) this.#reshaped = features;
  }

  /** An initialiser, also by way of Identity, which exporters put where two are equal. */
  #tensor(name: string, node: OnnxNode, what: string): OnnxTensor {
    let at = name;
    for (let steps = 0; steps < this.#model.nodes.length; steps++) {
      const producer = this.#producers.get(at);
      if (producer?.op !== 'Identity') break;
      at = producer.inputs[0] ?? '';
    }
    const tensor = this.#model.tensors.get(at);
    if (!tensor) {
      differ(
        `${describe(node)}: expected its ${what} as an initialiser, got ${name === '' ? 'none' : quoteName(name)}`,
      );
    }
    return tensor;
  }
}

const SHAPE_OPS: ReadonlySet<string> = new Set(['Concat', 'Cast', 'Slice', 'Unsqueeze']);

function checkMaxPool(at: Attributes): void {
  at.expectIntegers('kernel_shape', [2, 2], []);
  at.expectIntegers('strides', [2, 2], [1, 1]);
  at.expectIntegers('dilations', [1, 1], [1, 1]);
  at.expectIntegers('pads', [0, 0, 0, 0], [0, 0, 0, 0]);
  at.expectInteger('ceil_mode', 0, 0);
}

/** An adaptive pool that was exported for one input size: its kernel is its stride. */
function checkAveragePool(at: Attributes): void {
  const kernel = at.integers('kernel_shape', []);
  at.expectIntegers('strides', kernel, [1, 1]);
  at.expectIntegers('pads', [0, 0, 0, 0], [0, 0, 0, 0]);
  at.expectInteger('ceil_mode', 0, 0);
}

function describe(node: OnnxNode): string {
  const name = node.name === '' ? '' : ` ${quoteName(node.name)}`;
  return `node ${node.index}${name} (${node.op.slice(0, 40)})`;
}

function differ(what: string): never {
  throw new VGGNetError('WEIGHTS_MISMATCH', `This graph is not a VGG network: ${what}`);
}
