import { abortable, eitherSignal } from '../../abort.js';
import type { ParameterChunk } from '../../backend.js';
import { throwIfAborted, VGGNetError } from '../../errors.js';
import type { ByteSource } from '../bytes/bytes.js';
import { free } from '../bytes/free.js';
import { type LoadProgress, ProgressMeter } from '../bytes/progress.js';
import {
  type ByteDtype,
  DTYPE_BITS,
  type FloatDtype,
  isBatchCount,
  isByteDtype,
  isFloatDtype,
  toFloat32,
} from '../dtype.js';
import { PRECISION_KEY } from '../metadata.js';
import type { ExternalData } from '../onnx/external.js';
import { checkWanted, type WeightSource } from '../source.js';
import { type Header, MAX_HEADER_BYTES, parseHeader, quoteName, type TensorRecord } from './header.js';

export interface OpenOptions {
  /** Stops opening, and reading later on. */
  readonly signal?: AbortSignal | undefined;
  /** Called at most 20 times a second, and once when all is read. */
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
  /** PyTorch checkpoints: the dict of tensors to take, where there are several. */
  readonly key?: string | undefined;
  /** ONNX: files with the values that the model keeps outside of itself. */
  readonly externalData?: ExternalData | undefined;
  /** PyTorch checkpoints: compare the checksums of all values. */
  readonly verify?: boolean | undefined;
}

/** Bytes read, and bytes given, at once. */
const CHUNK_BYTES = 2 ** 20;
/** A header of a stream is read in parts of this size, so that a false length costs nothing. */
const HEADER_PART_BYTES = 2 ** 20;
const LENGTH_BYTES = 8;

/**
 * Reads the header of a safetensors file, and takes ownership of its bytes. `chunks` reads F32, F16, BF16 and F64, and
 * the I8 and U8 of low-precision weights; it throws `INVALID_DTYPE` for a wanted tensor of another dtype, before any value is read, and
 * `INVALID_WEIGHTS_FILE` for bytes that end early or go on after the last tensor. A `num_batches_tracked` is passed
 * over, also where it is wanted.
 * @throws VGGNetError `INVALID_WEIGHTS_FILE`, `IO`, `ABORTED`; the bytes are closed then
 */
export async function openSafetensors(bytes: ByteSource, options: OpenOptions = {}): Promise<WeightSource> {
  const meter = new ProgressMeter(options.onProgress, bytes.size ?? bytes.expectedSize);
  try {
    throwIfAborted(options.signal);
    const headerBytes = await readHeaderBytes(bytes, options.signal);
    const header = parseHeader(headerBytes, bytes.label);
    const dataStart = LENGTH_BYTES + headerBytes.length;
    if (bytes.size !== undefined) checkSize(header, dataStart, bytes.size, bytes.label);
    meter.advance(dataStart);
    return new SafetensorsSource(bytes, header, dataStart, meter, options.signal);
  } catch (error) {
    await bytes.close();
    throw error;
  }
}

async function readHeaderBytes(bytes: ByteSource, signal: AbortSignal | undefined): Promise<Uint8Array> {
  const fail = (what: string): never => {
    throw new VGGNetError('INVALID_WEIGHTS_FILE', `${bytes.label}: ${what}`);
  };
  const prefix = new Uint8Array(LENGTH_BYTES);
  const got = await abortable(bytes.read(prefix), signal);
  if (got < LENGTH_BYTES) fail(`a safetensors file has at least ${LENGTH_BYTES} bytes, got ${got}`);
  const claimed = new DataView(prefix.buffer).getBigUint64(0, true);
  if (claimed > MAX_HEADER_BYTES) {
    fail(`a header of ${claimed} bytes, over the limit of ${MAX_HEADER_BYTES}, if this is a safetensors file`);
  }
  const length = Number(claimed);
  if (length === 0) fail('a header of 0 bytes');
  if (bytes.size !== undefined && LENGTH_BYTES + length > bytes.size) {
    fail(`a header of ${length} bytes goes past the end of the file, at ${bytes.size}`);
  }
  const parts: Uint8Array[] = [];
  let read = 0;
  while (read < length) {
    const part = new Uint8Array(Math.min(HEADER_PART_BYTES, length - read));
    const count = await abortable(bytes.read(part), signal);
    read += count;
    if (count < part.length) fail(`ends at byte ${LENGTH_BYTES + read}, within its header of ${length} bytes`);
    parts.push(part);
  }
  const header = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    header.set(part, offset);
    offset += part.length;
  }
  return header;
}

function checkSize(header: Header, dataStart: number, size: number, label: string): void {
  const expected = dataStart + header.dataBytes;
  if (size === expected) return;
  const outside = header.tensors.find((tensor) => dataStart + tensor.end > size);
  throw new VGGNetError(
    'INVALID_WEIGHTS_FILE',
    outside
      ? `${label}: tensor ${quoteName(outside.name)} ends at byte ${dataStart + outside.end}, past the end of the file, at ${size}`
      : `${label}: ${size - expected} bytes follow the last tensor, which ends at byte ${expected}`,
  );
}

class SafetensorsSource implements WeightSource {
  readonly entries: readonly TensorRecord[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly #bytes: ByteSource;
  readonly #dataStart: number;
  readonly #meter: ProgressMeter;
  readonly #openSignal: AbortSignal | undefined;
  #state: 'new' | 'read' | 'closed' = 'new';
  #buffer: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  #floats = new Float32Array(0);

  constructor(bytes: ByteSource, header: Header, dataStart: number, meter: ProgressMeter, signal?: AbortSignal) {
    this.entries = header.tensors;
    this.metadata = header.metadata;
    this.#bytes = bytes;
    this.#dataStart = dataStart;
    this.#meter = meter;
    this.#openSignal = signal;
  }

  async *chunks(
    wanted: ReadonlySet<string>,
    readSignal?: AbortSignal,
  ): AsyncGenerator<ParameterChunk, void, undefined> {
    if (this.#state === 'closed') throw new VGGNetError('DISPOSED', `${this.#bytes.label} is closed`);
    if (this.#state === 'read') throw new VGGNetError('INVALID_ARGUMENT', `${this.#bytes.label} was read before`);
    this.#state = 'read';
    const signal = eitherSignal(this.#openSignal, readSignal);
    try {
      throwIfAborted(signal);
      const isReadable = (dtype: string): dtype is FloatDtype | ByteDtype =>
        isFloatDtype(dtype) || (PRECISION_KEY in this.metadata && isByteDtype(dtype));
      checkWanted(this.entries, wanted, this.#bytes.label, isReadable);
      for (const tensor of this.entries) {
        const { dtype, name } = tensor;
        if (isReadable(dtype) && wanted.has(name) && !isBatchCount(name)) {
          yield* this.#read(tensor, dtype, signal);
        } else {
          await this.#skip(tensor, signal);
        }
      }
      await this.#checkEnd(signal);
      await this.#meter.finish();
    } finally {
      await this.close();
    }
  }

  async close(): Promise<void> {
    this.#state = 'closed';
    // Not the buffer: a read that was given up may still write into it.
    free(this.#floats);
    this.#buffer = new Uint8Array(0);
    this.#floats = new Float32Array(0);
    await this.#bytes.close();
  }

  async *#read(
    tensor: TensorRecord,
    dtype: FloatDtype | ByteDtype,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<ParameterChunk, void, undefined> {
    const width = (DTYPE_BITS.get(dtype) as number) / 8;
    const count = (tensor.end - tensor.begin) / width;
    const most = CHUNK_BYTES / Math.max(width, Float32Array.BYTES_PER_ELEMENT);
    for (let offset = 0; offset < count; offset += most) {
      throwIfAborted(signal);
      const length = Math.min(most, count - offset) * width;
      const raw = this.#take(length);
      const got = await abortable(this.#bytes.read(raw), signal);
      this.#meter.advance(got);
      if (got < length) this.#endsEarly(tensor, offset * width + got);
      const data = isByteDtype(dtype) ? this.#fromBytes(raw, dtype) : toFloat32(raw, dtype);
      yield { name: tensor.name, offset, data };
    }
  }

  /** As floats, in one buffer too: a low-precision model is there to save memory. */
  #fromBytes(raw: Uint8Array<ArrayBuffer>, dtype: ByteDtype): Float32Array {
    if (this.#floats.length < raw.length) this.#floats = new Float32Array(raw.length);
    const data = this.#floats.subarray(0, raw.length);
    data.set(dtype === 'I8' ? new Int8Array(raw.buffer, raw.byteOffset, raw.length) : raw);
    return data;
  }

  /** The one buffer that all values go through. */
  #take(length: number): Uint8Array<ArrayBuffer> {
    if (this.#buffer.length < length) this.#buffer = new Uint8Array(length);
    return this.#buffer.subarray(0, length);
  }

  async #skip(tensor: TensorRecord, signal: AbortSignal | undefined): Promise<void> {
    const length = tensor.end - tensor.begin;
    for (let skipped = 0; skipped < length; ) {
      throwIfAborted(signal);
      const part = Math.min(CHUNK_BYTES, length - skipped);
      const got = await abortable(this.#bytes.skip(part), signal);
      skipped += got;
      this.#meter.advance(got);
      if (got < part) this.#endsEarly(tensor, skipped);
    }
  }

  #endsEarly(tensor: TensorRecord, within: number): never {
    const position = this.#dataStart + tensor.begin + within;
    throw new VGGNetError(
      'INVALID_WEIGHTS_FILE',
      `${this.#bytes.label}: ends early at byte ${position}, within tensor ${quoteName(tensor.name)}, which ends at byte ${this.#dataStart + tensor.end}`,
    );
  }

  /** Bytes of an unknown number must end with the last tensor. */
  async #checkEnd(signal: AbortSignal | undefined): Promise<void> {
    if (this.#bytes.size !== undefined) return;
    if ((await abortable(this.#bytes.read(new Uint8Array(1)), signal)) === 0) return;
    const end = this.#dataStart + (this.entries.at(-1)?.end ?? 0);
    throw new VGGNetError(
      'INVALID_WEIGHTS_FILE',
      `${this.#bytes.label}: bytes follow the last tensor, which ends at byte ${end}`,
    );
  }
}
