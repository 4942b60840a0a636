import { throwIfAborted, VGGNetError } from '../errors.js';
import { assertAttached, formatShape, numel, Tensor } from '../tensor.js';
import { isBatchCount, toFloat16 } from './dtype.js';
import { MAX_HEADER_BYTES, quoteName } from './safetensors/header.js';

export interface SaveOptions {
  /** Free text that goes with the tensors. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  /** 'F16' halves the file, and rounds the values. Default 'F32'. */
  readonly dtype?: 'F32' | 'F16' | undefined;
}

export interface WriteOptions extends SaveOptions {
  /** Stops the stream with `ABORTED`. */
  readonly signal?: AbortSignal | undefined;
}

/** A tensor to be written: its name, shape, and dtype if it has one of its own. */
export interface WriteEntry {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype?: 'F32' | 'F16' | 'BF16' | 'I8' | 'U8' | undefined;
}

/** The values of a tensor: those of I8 and U8 as they are stored. */
export type WriteValues = Float32Array | Int8Array | Uint8Array;

/** Bytes given at once. */
const CHUNK_BYTES = 2 ** 22;

/**
 * A safetensors file as a stream, made tensor by tensor as it is read, so that only one of them is held at a time.
 * `num_batches_tracked` is written as I64, as PyTorch has it.
 * @param entries in the order in which they are written, but wider elements before narrower ones
 * @param read gives the values of an entry when it is its turn
 * @throws VGGNetError `INVALID_ARGUMENT` for a name that is empty, not allowed or there twice, an option, or a count
 * that is no integer; `INVALID_SHAPE` for a shape that is none. The stream fails with `INVALID_SHAPE` if `read` gives
 * another number of values, with `ABORTED`, or with what `read` throws
 */
export function writeSafetensors(
  entries: readonly WriteEntry[],
  read: (name: string) => Promise<WriteValues> | WriteValues,
  options: WriteOptions = {},
): ReadableStream<Uint8Array> {
  const { ordered, header } = layOut(entries, options);
  const parts = (async function* (): AsyncGenerator<Uint8Array, void, undefined> {
    yield header;
    for (const { name, shape, dtype } of ordered) {
      const values = await read(name);
      checkValues(name, shape, values);
      const step = CHUNK_BYTES / values.BYTES_PER_ELEMENT;
      for (let i = 0; i < values.length; i += step) {
        // A copy, as the receiver may transfer it.
        yield encode(name, values.slice(i, i + step), dtype);
      }
    }
  })();
  const { signal } = options;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        throwIfAborted(signal);
        const { done, value } = await parts.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await parts.return();
      },
    },
    { highWaterMark: 0 },
  );
}

/**
 * Tensors as the bytes of a safetensors file. A large model is better written with `writeSafetensors`.
 * @throws VGGNetError `INVALID_ARGUMENT`, `INVALID_SHAPE`; see `writeSafetensors`
 */
export function saveSafetensors(
  tensors: Readonly<Record<string, Tensor>> | ReadonlyMap<string, Tensor>,
  options: SaveOptions = {},
): Uint8Array<ArrayBuffer> {
  const map = new Map(tensors instanceof Map ? tensors : Object.entries(tensors));
  const entries = [...map].map(([name, tensor]): WriteEntry => {
    if (!(tensor instanceof Tensor)) {
      throw new VGGNetError('INVALID_ARGUMENT', `Expected a Tensor under ${quoteName(name)}, got ${typeof tensor}`);
    }
    assertAttached(tensor);
    return { name, shape: tensor.shape };
  });
  const { ordered, header, dataBytes } = layOut(entries, options);
  const out = new Uint8Array(header.length + dataBytes);
  out.set(header);
  let offset = header.length;
  for (const { name, dtype } of ordered) {
    const bytes = encode(name, (map.get(name) as Tensor).data, dtype);
    out.set(bytes, offset);
    offset += bytes.length;
  }
  return out;
}

type WriteDtype = 'I64' | 'F32' | 'F16' | 'BF16' | 'I8' | 'U8';
const BYTES: Readonly<Record<WriteDtype, number>> = { I64: 8, F32: 4, F16: 2, BF16: 2, I8: 1, U8: 1 };

interface Layout {
  readonly ordered: readonly (Omit<WriteEntry, 'dtype'> & { readonly dtype: WriteDtype })[];
  /** The length, the header, and spaces up to a multiple of 8. */
  readonly header: Uint8Array<ArrayBuffer>;
  readonly dataBytes: number;
}

function layOut(entries: readonly WriteEntry[], options: SaveOptions): Layout {
  const float = options.dtype ?? 'F32';
  if (float !== 'F32' && float !== 'F16') {
    throw new VGGNetError('INVALID_ARGUMENT', `dtype must be 'F32' or 'F16', got ${String(float)}`);
  }
  checkNames(entries);
  const typed = entries.map(
    (entry) => ({ ...entry, dtype: isBatchCount(entry.name) ? 'I64' : (entry.dtype ?? float) }) as const,
  );
  // Wide ones first: each tensor then starts at a multiple of its element's size, for readers that map the file.
  const ordered = typed.sort((a, b) => BYTES[b.dtype] - BYTES[a.dtype]);
  const records: [string, unknown][] = [];
  if (options.metadata) records.push(['__metadata__', checkMetadata(options.metadata)]);
  let dataBytes = 0;
  for (const { name, shape, dtype } of ordered) {
    const end = dataBytes + numel(shape) * BYTES[dtype];
    records.push([name, { dtype, shape, data_offsets: [dataBytes, end] }]);
    dataBytes = end;
  }
  // Member by member, since an object would put names such as '0' first.
  const json = `{${records.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(',')}}`;
  const text = new TextEncoder().encode(json);
  const length = Math.ceil(text.length / 8) * 8;
  if (length > MAX_HEADER_BYTES) {
    throw new VGGNetError('INVALID_ARGUMENT', `A header of ${length} bytes, over the limit of ${MAX_HEADER_BYTES}`);
  }
  const header = new Uint8Array(8 + length).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true);
  header.set(text, 8);
  return { ordered, header, dataBytes };
}

/** Half of a surrogate pair: it has no UTF-8, and other readers refuse it. */
const LONE_SURROGATE = /\p{Surrogate}/u;

function checkNames(entries: readonly WriteEntry[]): void {
  const seen = new Set<string>();
  for (const { name, shape } of entries) {
    if (typeof name !== 'string' || name === '' || name === '__proto__' || name === '__metadata__') {
      throw new VGGNetError('INVALID_ARGUMENT', `A tensor cannot be called ${quoteName(String(name))}`);
    }
    if (LONE_SURROGATE.test(name)) {
      throw new VGGNetError('INVALID_ARGUMENT', `The tensor name ${quoteName(name)} is not Unicode`);
    }
    if (seen.has(name)) throw new VGGNetError('INVALID_ARGUMENT', `Two tensors are called ${quoteName(name)}`);
    seen.add(name);
    if (!shape.every((size) => Number.isSafeInteger(size) && size >= 0) || !Number.isSafeInteger(numel(shape) * 8)) {
      throw new VGGNetError('INVALID_SHAPE', `${quoteName(name)}: ${formatShape(shape)} is no shape of a tensor`);
    }
  }
}

function checkMetadata(metadata: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== 'string') {
      throw new VGGNetError('INVALID_ARGUMENT', `metadata: ${quoteName(key)} must be a string, got ${typeof value}`);
    }
    if (LONE_SURROGATE.test(key) || LONE_SURROGATE.test(value)) {
      throw new VGGNetError('INVALID_ARGUMENT', `metadata: ${quoteName(key)} is not Unicode`);
    }
  }
  return metadata;
}

function checkValues(name: string, shape: readonly number[], values: WriteValues): void {
  if (values.length === numel(shape)) return;
  throw new VGGNetError(
    'INVALID_SHAPE',
    `${quoteName(name)}: shape ${formatShape(shape)} needs ${numel(shape)} values, got ${values.length}`,
  );
}

/** F32, I8 and U8 are views of the values. */
function encode(name: string, values: WriteValues, dtype: WriteDtype): Uint8Array {
  if (!(values instanceof Float32Array) || dtype === 'F32')
    return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  if (dtype === 'F16') return new Uint8Array(toFloat16(values).buffer);
  // Of values that have no more digits.
  if (dtype === 'BF16') {
    const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
    return new Uint8Array(Uint16Array.from(bits, (word) => word >>> 16).buffer);
  }
  const counts = BigInt64Array.from(values, (value) => {
    if (!Number.isSafeInteger(value)) {
      throw new VGGNetError('INVALID_ARGUMENT', `${quoteName(name)} must be an integer, got ${value}`);
    }
    return BigInt(value);
  });
  return new Uint8Array(counts.buffer);
}
