import { VGGNetError } from '../errors.js';
import type { ByteSource, WeightsInput } from './bytes/bytes.js';
import { ByteCursor } from './bytes/cursor.js';
import { spool } from './bytes/spool.js';
import { openNpz } from './numpy/npz.js';
import type { OpenBytes } from './onnx/external.js';
import { type OpenOptions, openSafetensors } from './safetensors/open.js';
import type { WeightSource } from './source.js';
import { openTorchLegacy } from './torch/legacy.js';
import { isTorchPickle, openTorchZip } from './torch/zip.js';

type Format = 'safetensors' | 'torch zip' | 'torch legacy' | 'npz' | 'onnx';

/**
 * Opens a file that is not plainly safetensors, as `openWeights` does.
 * @param start its first bytes
 * @param input where the bytes come from, to find files beside it
 * @param open opens such a file
 * @throws VGGNetError `INVALID_WEIGHTS_FILE` for a file of another kind, and as the formats' readers
 */
export async function openOther(
  start: Uint8Array<ArrayBuffer>,
  bytes: ByteSource,
  options: OpenOptions,
  input: WeightsInput,
  open: OpenBytes,
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
      const { externalOpener, openOnnx } = await import('./onnx/open.js');
      return openOnnx(cursor, externalOpener(input, open, options));
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
  const foreign = foreignKind(text);
  if (foreign !== undefined) throw new VGGNetError('INVALID_WEIGHTS_FILE', `${label}: ${foreign}`);
  return 'safetensors';
}

const PICKLE_PROTOCOL = 0x80;
/** ir_version, field 1. */
const ONNX_VERSION = 0x08;
/** producer_name and its version, domain, model_version, doc_string, graph, opset_import, metadata_props. */
const ONNX_FIELDS: readonly number[] = [0x12, 0x1a, 0x22, 0x28, 0x32, 0x3a, 0x42, 0x72];

const WEB_PAGE = ['', 'this is a web page, not weights'] as const;
/** By their first bytes: what people take for weights, or what a tool made of them. */
const OTHERS: readonly (readonly [mark: string, what: string])[] = [
  ['\x93NUMPY', 'one array without a name (.npy), expected several in a .npz'],
  ['\x89HDF', 'this is an HDF5 file, as of Keras; save the weights as .npz'],
  ['version https:', 'this is a Git LFS pointer: the file itself was not downloaded'],
  ['\x1f\x8b', 'this is a gzip file; unpack it first'],
  ['BZh', 'this is a bzip2 file; unpack it first'],
  ['\xfd7zXZ', 'this is an xz file; unpack it first'],
  ['\x28\xb5\x2f\xfd', 'this is a Zstandard file; unpack it first'],
  ['7z\xbc\xaf', 'this is a 7z archive; unpack it first'],
  ['Rar!', 'this is a RAR archive; unpack it first'],
  ['GGUF', 'this is a GGUF file, which holds language models'],
  ['MATLAB 5', 'this is a MATLAB file; save the weights as .npz by scipy.io.loadmat and numpy.savez'],
  ['\x03\x00\x00\x00\x01\x00\x00\x00', 'this is a file of Lua Torch (.t7); convert it to safetensors or .npz first'],
  ['\x04\x00\x00\x00', 'this is a file of Lua Torch (.t7); convert it to safetensors or .npz first'],
];
/** By the mark that FlatBuffers have at byte 4. */
const FLAT: Readonly<Record<string, string>> = {
  TFL3: 'this is a TensorFlow Lite model; save the weights of the model that it was made from',
  ORTM: "this is onnxruntime's own format (.ort); use the .onnx file that it was made from",
};

/** What bytes that are not safetensors seem to be. */
function foreignKind(text: string): string | undefined {
  const other = OTHERS.find(([mark]) => text.startsWith(mark)) ?? (/^\s*</.test(text) ? WEB_PAGE : undefined);
  if (other) return other[1];
  const flat = text.slice(4, 8);
  if (Object.hasOwn(FLAT, flat)) return FLAT[flat];
  if (text.slice(257, 262) === 'ustar') return 'this is a tar archive; unpack it first';
  // A name of a network is a Caffe model's first field.
  if (text.startsWith('\n') && text.charCodeAt(1) < 0x80 && /^[\w. -]{4}/.test(text.slice(2)))
    return 'this is a Caffe model (.caffemodel); convert it to safetensors or .npz first';
  if (/^[[{]/.test(text)) {
    return 'this is JSON, not weights; an index of shards or a model.json only lists the files that have them';
  }
  if (/^\((?:dp|lp|c|i)/.test(text))
    return 'this is a pickle of protocol 0; save the weights by torch.save or numpy.savez';
  if (/^[\t\n\r\x20-\x7e]{9,}$/.test(text)) return `this is text, not weights: '${text.slice(0, 100).trim()}…'`;
  return undefined;
}

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
  // Repacked by another program, with the pickle elsewhere.
  if (/(?:^|\/)(?:data\/|[^/]*\/$|version$|byteorder$|\.)/.test(name)) return 'torch zip';
  return fail(
    `a zip archive of '${name.slice(0, 100)}' is neither a PyTorch checkpoint nor .npz; unpack it, or save the weights as .npz`,
  );
}
