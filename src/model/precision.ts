import { VGGNetError } from '../errors.js';
import { nearest } from '../nearest.js';
import { isWeighted, type Layer } from '../program/layers.js';
import { PRECISIONS, type Precision } from '../program/precision.js';
import type { PrecisionOption, PrecisionOptions } from './options.js';

/**
 * The layers with the precisions and input ranges that the options ask for.
 * @throws VGGNetError `INVALID_ARGUMENT`
 */
export function withOptions(layers: readonly Layer[], { precision, inputRanges }: PrecisionOptions): readonly Layer[] {
  const stored = precision === undefined ? layers : withPrecision(layers, precision);
  return inputRanges === undefined ? stored : withRanges(stored, inputRanges);
}

function withRanges(layers: readonly Layer[], ranges: Readonly<Record<string, number>>): Layer[] {
  const names = layers.flatMap((layer) => (layer.op === 'conv2d' ? [layer.name] : []));
  for (const [name, range] of Object.entries(ranges)) {
    if (names.includes(name) && typeof range === 'number' && range >= 0 && range < Number.POSITIVE_INFINITY) continue;
    throw new VGGNetError(
      'INVALID_ARGUMENT',
      `inputRanges must have numbers by the names of convolutions, got ${JSON.stringify(name)}: ${String(range)}`,
    );
  }
  return layers.map((layer) => {
    const inputRange = ranges[layer.name];
    return inputRange === undefined || layer.op !== 'conv2d' ? layer : { ...layer, inputRange };
  });
}

/**
 * The layers with the precisions that the option asks for; layers that it does not name stay as they are.
 * @throws VGGNetError `INVALID_ARGUMENT` for a precision or layer that is not known, or int4 for a convolution
 */
export function withPrecision(layers: readonly Layer[], option: PrecisionOption): Layer[] {
  const by = typeof option === 'string' ? { default: option } : option;
  if (typeof by !== 'object' || by === null) throw unknown(by);
  checkKeys(by, layers.filter(isWeighted));
  return layers.map((layer) => {
    if (!isWeighted(layer)) return layer;
    const kind = layer.op === 'conv2d' ? 'conv' : 'fc';
    const specific = by[layer.path] ?? by[layer.name] ?? by[kind];
    const precision = specific ?? by.default;
    if (precision === undefined) return layer;
    if (precision === 'fp32') {
      const { precision: _, ...plain } = layer;
      return plain as Layer;
    }
    if (layer.op === 'linear') return { ...layer, precision };
    if (specific === 'int4') {
      throw new VGGNetError('INVALID_ARGUMENT', `${layer.name}: a convolution can be fp32, fp16 or int8, got int4`);
    }
    return { ...layer, precision: precision === 'int4' ? 'int8' : precision };
  });
}

function checkKeys(by: Readonly<Record<string, unknown>>, layers: readonly Layer[]): void {
  const keys = ['default', 'conv', 'fc', ...layers.flatMap(({ name, path }) => [name, path])];
  for (const [key, precision] of Object.entries(by)) {
    if (!PRECISIONS.includes(precision as Precision)) throw unknown(precision);
    if (keys.includes(key)) continue;
    throw new VGGNetError(
      'INVALID_ARGUMENT',
      `precision: no layer is called '${key}'; nearest: ${nearest(key, keys).join(', ')}`,
    );
  }
}

function unknown(got: unknown): VGGNetError {
  return new VGGNetError(
    'INVALID_ARGUMENT',
    `precision must be one of ${PRECISIONS.map((name) => `'${name}'`).join(', ')}, or an object of them by layer; got ${JSON.stringify(got)}`,
  );
}
