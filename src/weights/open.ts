import { abortable } from '../abort.js';
import { type ByteSource, openBytes, type WeightsInput } from './bytes/bytes.js';
import { PRECISION_KEY } from './metadata.js';
import { namingOf, toCanonical } from './naming.js';
import { type OpenOptions, openSafetensors } from './safetensors/open.js';
import type { WeightSource } from './source.js';

/** As many bytes as tell the formats apart. */
const START_BYTES = 16;
/** And for what is not plainly safetensors: a zip archive's first name, and the mark of a tar. */
const LONG_START_BYTES = 512;

/**
 * Opens a weights file and reads what is in it, but no values. The format is recognized by the first bytes:
 * safetensors; a PyTorch checkpoint, in the zip format or the one before 1.6; `.npz`, with a state dict's names or
 * Keras's; ONNX.
 *
 * Tensors are read as `chunks` is, in order, and the whole file is never in memory; but of a stream or a response
 * that is `.npz` or ONNX it is, since those have shapes all over the file.
 * @throws VGGNetError `INVALID_ARGUMENT`, `IO`, `INVALID_WEIGHTS_FILE`, `WEIGHTS_MISMATCH` for an ONNX graph that is no
 * VGG, `OUT_OF_MEMORY`, `ABORTED`; nothing stays open then
 */
export async function openWeights(input: WeightsInput, options: OpenOptions = {}): Promise<WeightSource> {
  const bytes = await openBytes(input, options.signal);
  try {
    const source = await openFormat(bytes, options, input);
    const naming = namingOf(source.entries);
    if (source.entries.every(({ name }) => (naming && toCanonical(name, naming)) !== undefined)) return source;
    // On demand too.
    const { withPlainNames } = await import('./rename.js');
    return withPlainNames(source);
  } catch (error) {
    await bytes.close();
    throw error;
  }
}

async function openFormat(bytes: ByteSource, options: OpenOptions, input: WeightsInput): Promise<WeightSource> {
  const start = await readStart(bytes, options.signal);
  const all = replay(bytes, start);
  if (isSafetensors(start)) {
    const source = await openSafetensors(all, options);
    if (!(PRECISION_KEY in source.metadata)) return source;
    const { openQuantized } = await import('./quantize/open.js');
    return openQuantized(source);
  }
  // On demand: most files are of the first kind, and the readers of all others are larger than the rest together.
  const { openOther } = await import('./formats.js');
  return openOther(start, all, options, input, openBytes);
}

async function readStart(bytes: ByteSource, signal: AbortSignal | undefined): Promise<Uint8Array<ArrayBuffer>> {
  const start = new Uint8Array(LONG_START_BYTES);
  const got = await abortable(bytes.read(start.subarray(0, START_BYTES)), signal);
  const more =
    got === START_BYTES && !isSafetensors(start) ? await abortable(bytes.read(start.subarray(START_BYTES)), signal) : 0;
  return start.subarray(0, got + more);
}

/** The '{' after a length of 8 bytes. Asked first, since such a length may begin with another format's mark. */
function isSafetensors(start: Uint8Array): boolean {
  return start[8] === 0x7b && start[5] === 0 && start[6] === 0 && start[7] === 0;
}

/** The same bytes, of which some have been read. */
function replay(bytes: ByteSource, start: Uint8Array<ArrayBuffer>): ByteSource {
  if (bytes.seek) {
    bytes.seek(0);
    return bytes;
  }
  let rest = start;
  return {
    label: bytes.label,
    size: bytes.size,
    expectedSize: bytes.expectedSize,
    async read(into) {
      const part = rest.subarray(0, into.length);
      into.set(part);
      rest = rest.subarray(part.length);
      return part.length < into.length ? part.length + (await bytes.read(into.subarray(part.length))) : part.length;
    },
    async skip(count) {
      const passed = Math.min(count, rest.length);
      rest = rest.subarray(passed);
      return passed < count ? passed + (await bytes.skip(count - passed)) : passed;
    },
    close: () => bytes.close(),
  };
}
