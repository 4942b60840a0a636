import { VGGNetError } from '../errors.js';
import type { ByteSource, WeightsInput } from './bytes/bytes.js';
import { ByteCursor } from './bytes/cursor.js';
import { spool } from './bytes/spool.js';
import { openNpz } from './numpy/npz.js';
import { type OpenOptions, openSafetensors } from './safetensors/open.js';
import type { WeightSource } from './source.js';
import { openTorchLegacy } from './torch/legacy.js';
import { isTorchPickle, openTorchZip } from './torch/zip.js';

type Format = 'safetensors' | 'torch zip' | 'torch legacy' | 'npz' | 'onnx';

/**
 * Opens a file that is not plainly safetensors, as `openWeights` does.
 * @param start its first bytes
 * @param input where the bytes come from, to find files beside it
 * @throws VGGNetError `INVALID_WEIGHTS_FILE` for a file of another kind, and as the formats' readers
 */
export async function openOther(
  start: Uint8Array<ArrayBuffer>,
  bytes: ByteSource,
  options: OpenOptions,
  input: WeightsInput,
): Promise<WeightSource> {
  const format = formatOf(start, bytes.label);
  if (format === 'safetensors') return openSafetensors(bytes, options);
  const cursor = await cursorFor(format, bytes, options);
  switch (format) {
    case 'torch zip':
      return openTorchZip(cursor, options);
    case 'torch legacy':
      return openTorchLegacy(cursor, options);
    case 'npz':
      return openNpz(cursor);
    case 'onnx': {
      // On demand once more: the protobuf reader is as large as the others.
      const [{ openOnnx }, { externalOpener }] = await Promise.all([
        import('./onnx/open.js'),
        import('./onnx/external.js'),
      ]);
      return openOnnx(cursor, externalOpener(input, options));
    }
  }
}

/** A stream is read as it comes if the format allows; else it is kept, and that is what takes the time. */
async function cursorFor(format: Format, bytes: ByteSource, options: OpenOptions): Promise<ByteCursor> {
  const inOrder = format === 'torch zip' || format === 'torch legacy';
  if (inOrder || bytes.seek) return new ByteCursor(bytes, options);
  return new ByteCursor(await spool(bytes, options), { signal: options.signal });
}

/** What the bytes seem to be; safetensors if nothing else, as it has no mark of its own. */
function formatOf(start: Uint8Array<ArrayBuffer>, label: string): Format {
  const text = String.fromCharCode(...start);
  if (text.startsWith('PK')) return zipFormat(start, text, label);
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
