import type { ParameterChunk } from '../../backend.js';
import { VGGNetError } from '../../errors.js';
import { formatShape, numel } from '../../tensor.js';
import { free } from '../bytes/free.js';
import { PRECISION_KEY } from '../metadata.js';
import { quoteName } from '../safetensors/header.js';
import type { StoredPrecision, WeightEntry, WeightSource } from '../source.js';
import type { Quantized } from './math.js';
import { GROUP, type Recipe, type RecipeEntry, SCALE, storedTensors } from './metadata.js';

/** One float32, and its bits. */
const value = new Float32Array(1);
const word = new Uint32Array(value.buffer);

interface Packed {
  readonly entry: RecipeEntry & { readonly precision: Quantized };
  readonly scaleCount: number;
  /**
   * From the first that is wanted to the last value: until then their number is only the file's word for it. In int4, of
   * which there are many, the upper half of each: the lower one is zero.
   */
  scales: Float32Array | Uint16Array | undefined;
  got: number;
}

/** Values of int4 on their way out: one buffer, as garbage counts in an edge worker. */
interface Unpacked {
  values: Float32Array;
}

/**
 * A source whose low-precision tensors (metadata.ts has the layout) are given as the float32 that they mean.
 * @throws VGGNetError `INVALID_WEIGHTS_FILE` for a recipe that does not fit the tensors
 */
export function openQuantized(source: WeightSource): WeightSource {
  const recipe = readRecipe(source.metadata[PRECISION_KEY] as string);
  const byName = new Map(source.entries.map((entry) => [entry.name, entry]));
  const packed = new Map<string, Packed>();
  const stored = new Map<string, StoredPrecision>();
  for (const [name, { precision, shape, inputRange }] of Object.entries(recipe)) {
    stored.set(name, { precision, inputRange });
    if (precision === 'fp16') {
      expectTensor(byName, name, 'F16', shape);
      continue;
    }
    const tensors = storedTensors(name, shape, precision);
    for (const { name, dtype, shape } of tensors) expectTensor(byName, name, dtype, shape);
    const scaleCount = numel(tensors[0]?.shape ?? []);
    packed.set(name, { entry: { precision, shape }, scaleCount, scales: undefined, got: 0 });
  }
  const isScale = (name: string): boolean => name.endsWith(SCALE) && packed.has(name.slice(0, -SCALE.length));
  const entries = source.entries
    .filter(({ name }) => !isScale(name))
    .map((entry): WeightEntry => {
      const found = packed.get(entry.name);
      return found ? { name: entry.name, shape: found.entry.shape, dtype: 'F32' } : entry;
    });
  return {
    entries,
    metadata: source.metadata,
    stored,
    async *chunks(wanted, signal) {
      const unpacked: Unpacked = { values: new Float32Array(0) };
      const all = new Set(wanted);
      for (const name of wanted) if (packed.has(name)) all.add(name + SCALE);
      try {
        for await (const chunk of source.chunks(all, signal)) {
          const weight = packed.get(chunk.name);
          if (weight) yield* unpack(chunk, weight, unpacked);
          else if (isScale(chunk.name)) take(chunk, packed.get(chunk.name.slice(0, -SCALE.length)) as Packed);
          else yield chunk;
        }
      } finally {
        free(unpacked.values);
      }
    },
    close: () => source.close(),
  };
}

function take({ name, offset, data }: ParameterChunk, weight: Packed): void {
  const { entry, scaleCount } = weight;
  weight.scales ??= entry.precision === 'int4' ? new Uint16Array(scaleCount) : new Float32Array(scaleCount);
  const { scales } = weight;
  for (let i = 0; i < data.length; i++) {
    const scale = data[i] as number;
    if (!(scale >= 0 && Number.isFinite(scale))) fail(`${quoteName(name)}: a scale of ${scale}`);
    value[0] = scale;
    scales[offset + i] = scales instanceof Float32Array ? scale : (word[0] as number) >>> 16;
  }
  weight.got = offset + data.length;
}

function release(packed: Packed, read: number): void {
  if (read < numel(packed.entry.shape)) return;
  if (packed.scales) free(packed.scales);
  packed.scales = undefined;
}

function* unpack(
  { name, offset, data }: ParameterChunk,
  packed: Packed,
  unpacked: Unpacked,
): Generator<ParameterChunk> {
  const { entry, scales, got, scaleCount } = packed;
  if (!scales || got < scaleCount) fail(`${quoteName(name)} comes before its scales`);
  const { precision, shape } = entry;
  const columns = numel(shape.slice(1));
  if (precision === 'int8') {
    for (let i = 0; i < data.length; i++) {
      const q = data[i] as number;
      if (q < -127) fail(`${quoteName(name)}: a value of ${q} in int8, which goes from -127 to 127`);
      data[i] = q * (scales[Math.floor((offset + i) / columns)] as number);
    }
    yield { name, offset, data };
    release(packed, offset + data.length);
    return;
  }
  const bytes = Math.ceil(columns / 2);
  const groups = Math.ceil(columns / GROUP);
  let row = Math.floor(offset / bytes);
  let column = 2 * (offset % bytes);
  const first = row * columns + column;
  if (unpacked.values.length < 2 * data.length) unpacked.values = new Float32Array(2 * data.length);
  const out = unpacked.values;
  let count = 0;
  for (let i = 0; i < data.length; i++) {
    const byte = data[i] as number;
    word[0] = (scales[row * groups + Math.floor(column / GROUP)] as number) << 16;
    const scale = value[0] as number;
    const low = (byte & 15) - 8;
    const high = (byte >> 4) - 8;
    if (low < -7 || high < -7) fail(`${quoteName(name)}: a value of -8 in int4, which goes from -7 to 7`);
    out[count++] = low * scale;
    if (column + 1 < columns) out[count++] = high * scale;
    column += 2;
    if (column >= columns) {
      column = 0;
      row++;
    }
  }
  yield { name, offset: first, data: out.subarray(0, count) };
  release(packed, first + count);
}

function expectTensor(
  tensors: ReadonlyMap<string, WeightEntry>,
  name: string,
  dtype: string,
  shape: readonly number[],
): void {
  const got = tensors.get(name);
  if (got && got.dtype === dtype && got.shape.join() === shape.join()) return;
  const what = got ? `${got.dtype} ${formatShape(got.shape)}` : 'no such tensor';
  fail(`${quoteName(name)}: expected ${dtype} ${formatShape(shape)}, got ${what}`);
}

/** @throws VGGNetError `INVALID_WEIGHTS_FILE` */
function readRecipe(text: string): Recipe {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new VGGNetError('INVALID_WEIGHTS_FILE', `The metadata's ${PRECISION_KEY} is not JSON`, { cause });
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) fail('it must be an object');
  for (const [name, entry] of Object.entries(parsed as Record<string, Partial<RecipeEntry> | null>)) {
    const { precision, shape, inputRange } = entry ?? {};
    const good =
      (precision === 'fp16' || precision === 'int8' || precision === 'int4') &&
      Array.isArray(shape) &&
      shape.length >= 2 &&
      shape.every((size) => Number.isSafeInteger(size) && size > 0) &&
      Number.isSafeInteger(numel(shape)) &&
      (inputRange === undefined || (Number.isFinite(inputRange) && inputRange > 0));
    if (!good) fail(`${quoteName(name)}: ${quoteName(JSON.stringify(entry))}`);
  }
  return parsed as Recipe;
}

function fail(what: string): never {
  throw new VGGNetError('INVALID_WEIGHTS_FILE', `Invalid quantized weights: ${what}`);
}
