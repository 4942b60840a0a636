import type { StepTime } from '../backend.js';
import { isWeighted, type Layer, parametersOf } from '../program/layers.js';
import { inferShapes, usualShape } from '../program/shape.js';
import { formatShape, numel } from '../tensor.js';
import type { VGGConfig } from '../vgg.js';
import { ELEMENT_BYTES, storedTensors } from '../weights/quantize/metadata.js';
import type { Target } from './load.js';

export interface LayerSummary {
  readonly name: string;
  /** torchvision's module path, '' where it has none. */
  readonly path: string;
  readonly op: Layer['op'];
  readonly outputShape: readonly number[];
  /** Learned values: batch norm's running statistics do not count, as in PyTorch. */
  readonly parameters: number;
  /** Multiply-accumulates of convolutions and linear layers. */
  readonly macs: number;
  /** Bytes of the weights transformed for Winograd's method, which are kept in addition to the weights themselves. */
  readonly transformedBytes: number;
  /** Bytes of the output. */
  readonly outputBytes: number;
}

export interface ModelSummary {
  readonly name: string;
  readonly inputShape: readonly number[];
  readonly layers: readonly LayerSummary[];
  readonly parameters: number;
  readonly macs: number;
  /** Bytes of all parameters and running statistics, as their layers' precision stores them. */
  readonly parameterBytes: number;
  /** Bytes of all weights transformed for Winograd's method; 0 on a device that transforms none. */
  readonly transformedBytes: number;
  /** Bytes of the largest pair of a layer's input and output: what a forward must hold at once. */
  readonly activationBytes: number;
  /** A table for people. */
  toString(): string;
}

/** The times of one forward. */
export interface Profile {
  readonly layers: readonly (StepTime & {
    /** Multiply-accumulates. */
    readonly macs: number;
  })[];
  readonly totalMs: number;
}

const BYTES = 4;

/** The summary of a network on its device. @throws VGGNetError `INVALID_SHAPE` */
export function summaryOf({ config, layers, backend }: Target, inputShape?: readonly number[]): ModelSummary {
  const usual = usualShape(layers, config.preset?.crop);
  const derived = backend.derivedBytes?.({ layers, inputShape: usual });
  return summarize(config, layers, inputShape ?? usual, derived);
}

/**
 * What each layer makes of an input, and what it costs.
 * @param transformed for each layer, the bytes of its transformed weights
 * @throws VGGNetError `INVALID_SHAPE` if the input does not fit
 */
export function summarize(
  config: VGGConfig,
  layers: readonly Layer[],
  inputShape: readonly number[],
  transformed: readonly number[] = [],
): ModelSummary {
  const shapes = inferShapes(layers, inputShape);
  const rows = layers.map((layer, i): LayerSummary => {
    const outputShape = shapes[i] as number[];
    const parameters = countLearned(layer);
    return {
      name: layer.name,
      path: layer.path,
      op: layer.op,
      outputShape,
      parameters,
      macs: macsOf(layer, outputShape),
      transformedBytes: transformed[i] ?? 0,
      outputBytes: numel(outputShape) * BYTES,
    };
  });
  const sum = (of: (row: LayerSummary) => number): number => rows.reduce((total, row) => total + of(row), 0);
  const sizes = [numel(inputShape) * BYTES, ...rows.map((row) => row.outputBytes)];
  const summary = {
    name: config.name,
    inputShape: [...inputShape],
    layers: rows,
    parameters: sum((row) => row.parameters),
    macs: sum((row) => row.macs),
    parameterBytes: layers.reduce((total, layer) => total + storedBytes(layer), 0),
    transformedBytes: sum((row) => row.transformedBytes),
    activationBytes: Math.max(...rows.map((_, i) => (sizes[i] as number) + (sizes[i + 1] as number))),
  };
  return { ...summary, toString: () => formatSummary(summary) };
}

/** Bytes of a layer's parameters, with the scales of its weights. */
function storedBytes(layer: Layer): number {
  const precision = isWeighted(layer) ? (layer.precision ?? 'fp32') : 'fp32';
  return parametersOf(layer).reduce((total, { name, shape }) => {
    const tensors = shape.length > 1 ? storedTensors(name, shape, precision) : [{ shape, dtype: 'F32' as const }];
    return total + tensors.reduce((sum, tensor) => sum + numel(tensor.shape) * ELEMENT_BYTES[tensor.dtype], 0);
  }, 0);
}

/** The number of values that layers learn. */
export function countLearned(...layers: readonly Layer[]): number {
  const learned = layers.flatMap(parametersOf).filter((spec) => spec.learned);
  return learned.reduce((total, { shape }) => total + numel(shape), 0);
}

/** Steps with the multiply-accumulates of their layers, as a summary for the same input has them. */
export function profileOf(steps: readonly StepTime[], summary: ModelSummary): Profile {
  const macs = new Map(summary.layers.map((layer) => [layer.name, layer.macs]));
  const layers = steps.map((step) => ({ ...step, macs: macs.get(step.name.split('+')[0] as string) ?? 0 }));
  return { layers, totalMs: layers.reduce((total, { ms }) => total + ms, 0) };
}

function macsOf(layer: Layer, output: readonly number[]): number {
  if (layer.op === 'conv2d') return numel(output) * layer.inChannels * 9;
  if (layer.op === 'linear') return numel(output) * layer.inFeatures;
  return 0;
}

function formatSummary(summary: Omit<ModelSummary, 'toString'>): string {
  const count = (value: number): string => (value === 0 ? '' : value.toLocaleString('en-US'));
  const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  const table = [
    ['layer', 'operation', 'output shape', 'parameters', 'multiply-accumulates', 'Winograd', 'output'],
    ...summary.layers.map((row) => [
      row.name,
      row.op,
      formatShape(row.outputShape),
      count(row.parameters),
      count(row.macs),
      row.transformedBytes === 0 ? '' : mib(row.transformedBytes),
      mib(row.outputBytes),
    ]),
  ];
  const widths = (table[0] as string[]).map((_, column) =>
    Math.max(...table.map((row) => (row[column] as string).length)),
  );
  const isNumber = (column: number): boolean => column >= 3;
  const lines = table.map((row) =>
    row
      .map((cell, column) =>
        isNumber(column) ? cell.padStart(widths[column] as number) : cell.padEnd(widths[column] as number),
      )
      .join('  ')
      .trimEnd(),
  );
  const rule = '-'.repeat(Math.max(...lines.map((line) => line.length)));
  return [
    `${summary.name}, input ${formatShape(summary.inputShape)}`,
    '',
    lines[0],
    rule,
    ...lines.slice(1),
    rule,
    `parameters             ${count(summary.parameters)} (${mib(summary.parameterBytes)} with running statistics)`,
    `multiply-accumulates   ${count(summary.macs)}`,
    `Winograd's weights     ${mib(summary.transformedBytes)} more`,
    `activations            ${mib(summary.activationBytes)} at once`,
  ].join('\n');
}
