import { VGGNetError } from '../errors.js';
import { abortable } from './abort.js';
import { type ByteSource, openBytes, type WeightsInput } from './bytes.js';
import { ByteCursor } from './cursor.js';
import { openNpz } from './numpy/npz.js';
import { type OpenOptions, openSafetensors } from './safetensors.js';
import type { WeightSource } from './source.js';
import { spool } from './spool.js';
import { openTorchLegacy } from './torch/legacy.js';
import { isTorchPickle, openTorchZip } from './torch/zip.js';

/** As many bytes as tell the formats apart. */
const START_BYTES = 16;
/** And for a zip archive the name of its first entry. */
const ZIP_START_BYTES = 512;

type Format = 'safetensors' | 'torch zip' | 'torch legacy' | 'npz' | 'onnx';

/**
 * Opens a weights file and reads what is in it, but no values. The format is recognised by the first bytes:
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
    const start = await readStart(bytes, options.signal);
    return await openFormat(formatOf(start, bytes.label), replay(bytes, start), options);
  } catch (error) {
    await bytes.close();
    throw error;
  }
}

async function readStart(bytes: ByteSource, signal: AbortSignal | undefined): Promise<Uint8Array<ArrayBuffer>> {
  const start = new Uint8Array(ZIP_START_BYTES);
  const got = await abortable(bytes.read(start.subarray(0, START_BYTES)), signal);
  const isZip = start[0] === 0x50 && start[1] === 0x4b && got === START_BYTES;
  const more = isZip ? await abortable(bytes.read(start.subarray(START_BYTES)), signal) : 0;
  return start.subarray(0, got + more);
}

async function openFormat(format: Format, bytes: ByteSource, options: OpenOptions): Promise<WeightSource> {
  if (format === 'safetensors') return openSafetensors(bytes, options);
  const cursor = await cursorFor(format, bytes, options);
  switch (format) {
    case 'torch zip':
      return openTorchZip(cursor);
    case 'torch legacy':
      return openTorchLegacy(cursor);
    case 'npz':
      return openNpz(cursor);
    case 'onnx': {
      // On demand: few have such a file, and the protobuf reader is not needed for others.
      const { openOnnx } = await import('./onnx/open.js');
      return openOnnx(cursor);
    }
  }
}

/** A stream is read as it comes if the format allows; else it is kept, and that is what takes the time. */
async function cursorFor(format: Format, bytes: ByteSource, options: OpenOptions): Promise<ByteCursor> {
  const inOrder = format === 'torch zip' || format === 'torch legacy';
  if (inOrder || bytes.seek) return new ByteCursor(bytes, options);
  return new ByteCursor(await spool(bytes, options), { signal: options.signal });
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

/** What the bytes seem to be; safetensors if nothing else, as it has no mark of its own. */
function formatOf(start: Uint8Array<ArrayBuffer>, label: string): Format {
  const text = String.fromCharCode(...start);
  if (text.startsWith('PK')) return zipFormat(start, text, label);
  // The '{' after a length of 8 bytes. Before ONNX, whose first byte could be such a length's.
  if (text[8] === '{' && text.slice(5, 8) === '\0\0\0') return 'safetensors';
  const [first = 0, second = 0, third = 0] = start;
  if (first === PICKLE_PROTOCOL && second < 16) return 'torch legacy';
  // A version, which is a small number, and then another field of a model.
  if (first === ONNX_VERSION && second > 0 && second < 64 && ONNX_FIELDS.includes(third)) return 'onnx';
  const other = OTHERS.find(([mark]) => text.startsWith(mark)) ?? (/^\s*</.test(text) ? WEB_PAGE : undefined);
  if (other) throw new VGGNetError('INVALID_WEIGHTS_FILE', `${label}: ${other[1]}`);
  return 'safetensors';
}

const PICKLE_PROTOCOL = 0x80;
/** ir_version, field 1. */
const ONNX_VERSION = 0x08;
/** producer_name and its version, domain, model_version, doc_string, graph, opset_import, metadata_props. */
const ONNX_FIELDS: readonly number[] = [0x12, 0x1a, 0x22, 0x28, 0x32, 0x3a, 0x42, 0x72];

const WEB_PAGE = ['', 'this is a web page, not weights'] as const;
const OTHERS: readonly (readonly [mark: string, what: string])[] = [
  ['\x93NUMPY', 'one array without a name (.npy), expected several in a .npz'],
  ['\x89HDF', 'this is an HDF5 file, as of Keras; save the weights as .npz'],
  ['version https:', 'this is a Git LFS pointer: the file itself was not downloaded'],
  ['\x1f\x8b', 'this is a gzip file; unpack it first'],
];

/** By the name of the first entry, which all archives have at their start. */
function zipFormat(start: Uint8Array<ArrayBuffer>, text: string, label: string): Format {
  const fail = (what: string): never => {
    throw new VGGNetError('INVALID_WEIGHTS_FILE', `${label}: ${what}`);
  };
  if (!text.startsWith('PK\x03\x04') || start.length < 30) {
    return fail(
      text.startsWith('PK\x05\x06') ? 'a zip archive without entries' : 'a zip archive that does not begin as one',
    );
  }
  const length = new DataView(start.buffer, start.byteOffset).getUint16(26, true);
  const name = text.slice(30, 30 + length);
  if (isTorchPickle(name)) return 'torch zip';
  if (name.endsWith('.npy')) return 'npz';
  // Packed anew, by another program: the pickle is elsewhere.
  if (/(?:^|\/)(?:data\/|[^/]*\/$|version$|byteorder$|\.)/.test(name)) return 'torch zip';
  return fail(
    `a zip archive of '${name.slice(0, 100)}' is neither a PyTorch checkpoint nor .npz; unpack it, or save the weights as .npz`,
  );
}
