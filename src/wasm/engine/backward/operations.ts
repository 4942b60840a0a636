import type { Layer } from '../../../program/layers.js';
import { BYTES, type Value } from '../../plan/layout.js';
import type { PlacedValue } from '../../plan/plan.js';
import { gradientValue } from '../../plan/tape.js';
import { batchNorm2dInputGradient, batchNorm2dParameterGradients } from './batchnorm2d.js';
import { type BackwardContext, type Gradient, opposite } from './context.js';
import { conv2dInputGradient, conv2dParameterGradients } from './conv2d.js';
import { addGradient, dropoutInputGradient, reluInputGradient, softmaxInputGradient } from './elementwise.js';
import { linearInputGradient, linearParameterGradients } from './linear.js';
import { adaptiveAvgPool2dInputGradient, maxPool2dInputGradient } from './pool.js';

/** The steps of a backward pass: each takes the gradient from one of the two buffers, and leaves it in one. */
export class BackwardOperations {
  readonly #context: BackwardContext;

  constructor(context: BackwardContext) {
    this.#context = context;
  }

  /** How the gradient of a layer's output is laid out. */
  outputValue(index: number): Value {
    return gradientValue(this.#context.layer(index).output);
  }

  /** Where a gradient is, to be read; one that waits for its ReLU is spread first. */
  read(gradient: Gradient): PlacedValue {
    const { pooled } = gradient;
    const { value, buffer } = pooled === undefined ? gradient : maxPool2dInputGradient(this.#context, gradient, pooled);
    return { ...value, offset: this.#context.plan.gradients[buffer], outside: false };
  }

  /** The gradient in another layout, or in another shape of the same one. */
  convert(gradient: Gradient, to: Value): Gradient {
    const { value, buffer } = gradient;
    if (gradient.pooled !== undefined) return gradient;
    if (value.layout === to.layout) return { value: to, buffer };
    const { kernels } = this.#context.parts;
    const other = opposite(buffer);
    const [from, target] = [this.#context.address(buffer), this.#context.address(other)];
    const [n = 0, c = 0, h = 0, w = 0] = value.shape;
    if (to.layout === 'nhwc') {
      kernels.clearBorder(target, n, h, w, to.stride);
      kernels.toPaddedNHWC(from, target, n, c, h, w, to.stride);
    } else {
      kernels.toNCHW(from, target, n, c, h, w, value.stride);
    }
    return { value: to, buffer: other };
  }

  /** Adds a cotangent of the caller's to the gradient of a value, if there is one. */
  addCotangent(gradient: Gradient | undefined, value: Value, data: Float32Array): Gradient {
    const context = this.#context;
    const { heap, kernels } = context.parts;
    const buffer = gradient ? opposite(gradient.buffer) : 0;
    const target = context.address(buffer);
    if (value.layout === 'nchw') {
      heap.f32.set(data, target / BYTES);
    } else {
      const staged = context.workspace;
      const [n = 0, c = 0, h = 0, w = 0] = value.shape;
      heap.f32.set(data, staged / BYTES);
      kernels.clearBorder(target, n, h, w, value.stride);
      kernels.toPaddedNHWC(staged, target, n, c, h, w, value.stride);
    }
    if (!gradient) return { value, buffer };
    addGradient(context, gradient.buffer, target, value);
    return gradient;
  }

  /** Adds to the gradients of a layer's parameters. */
  parameterGradients(layer: Layer, index: number, dy: Gradient, names: readonly string[]): void {
    const context = this.#context;
    if (layer.op === 'conv2d') conv2dParameterGradients(context, layer, index, dy, names);
    if (layer.op === 'linear') linearParameterGradients(context, layer, index, dy, names);
    if (layer.op === 'batchNorm2d') batchNorm2dParameterGradients(context, layer, index, dy, names);
  }

  /** The gradient of a layer's input. */
  inputGradient(layer: Layer, index: number, dy: Gradient): Gradient {
    const context = this.#context;
    const tape = context.layer(index);
    switch (layer.op) {
      case 'conv2d':
        return conv2dInputGradient(context, layer, index, dy);
      case 'linear':
        return linearInputGradient(context, layer, index, dy);
      case 'batchNorm2d':
        batchNorm2dInputGradient(context, layer, index, dy);
        return dy;
      case 'relu': {
        const { pooled } = dy;
        reluInputGradient(context, dy, pooled === undefined ? tape.output : context.layer(pooled).output);
        return pooled === undefined ? dy : maxPool2dInputGradient(context, dy, pooled);
      }
      case 'maxPool2d': {
        const before = context.plan.layers[index - 1];
        return before?.masksPooled ? { ...dy, pooled: index } : maxPool2dInputGradient(context, dy, index);
      }
      case 'adaptiveAvgPool2d':
        return adaptiveAvgPool2dInputGradient(context, layer, index, dy);
      case 'flatten':
        return { value: gradientValue(tape.input), buffer: dy.buffer };
      case 'dropout':
        dropoutInputGradient(context, layer, index, dy);
        return dy;
      case 'softmax':
        softmaxInputGradient(context, index, dy);
        return dy;
    }
  }
}
