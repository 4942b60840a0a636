import type { ByteCursor } from '../bytes/cursor.js';
import type { Storage } from '../bytes/view.js';
import { quoteName } from '../safetensors/header.js';
import { BYTES, FIXED32, type FileField, fieldsOf, Message, VARINT } from './protobuf.js';

/*
 * What is in an ONNX file: the nodes of its graph, and of each initializer what and where it is. Fields by number:
 * https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
 */

export interface OnnxNode {
  readonly index: number;
  readonly name: string;
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: ReadonlyMap<string, OnnxAttribute>;
}

/** One of the fields, by the attribute's type. */
export interface OnnxAttribute {
  readonly float?: number | undefined;
  readonly integer?: number | undefined;
  readonly text?: string | undefined;
  readonly integers?: readonly number[] | undefined;
  readonly floats?: readonly number[] | undefined;
  readonly tensor?: OnnxTensor | undefined;
  /** Strings, graphs, sparse tensors: whatever no operator of a VGG has. */
  readonly other?: boolean | undefined;
}

/** Where values lie that are in a file beside the model's. */
export interface ExternalData {
  readonly location: string;
  readonly offset: number;
}

/** An initializer, or the value of a Constant: a storage of its own. */
export interface OnnxTensor extends Storage {
  readonly name: string;
  readonly dims: readonly number[];
  /** safetensors' name, or 'type 8' of one that is not read. */
  readonly dtype: string;
  readonly width: number;
  /** Of the first value in the file; undefined if there is none. */
  readonly start: number | undefined;
  /** Bytes in the file, which differ from `byteLength` where halves are written as varints. */
  readonly fileBytes: number;
  readonly external: ExternalData | undefined;
  readonly varints: boolean;
  /** Of a small tensor of int64, such as a shape. */
  readonly integers: readonly number[] | undefined;
}

export interface OnnxModel {
  readonly nodes: readonly OnnxNode[];
  readonly tensors: ReadonlyMap<string, OnnxTensor>;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
}

/** Of a name, or an attribute that is no tensor. */
const MAX_FIELD_BYTES = 2 ** 16;
const MAX_NODES = 4096;
const MAX_DIMENSIONS = 8;
const MAX_NAME_BYTES = 4096;
const INT64 = 7;

/** TensorProto.DataType. */
const DTYPES: Readonly<Record<number, readonly [dtype: string, width: number]>> = {
  1: ['F32', 4],
  2: ['U8', 1],
  3: ['I8', 1],
  4: ['U16', 2],
  5: ['I16', 2],
  6: ['I32', 4],
  7: ['I64', 8],
  9: ['BOOL', 1],
  10: ['F16', 2],
  11: ['F64', 8],
  12: ['U32', 4],
  13: ['U64', 8],
  16: ['BF16', 2],
};

/** Reads the whole file but for the values. */
export async function readModel(cursor: ByteCursor): Promise<OnnxModel> {
  const size = cursor.size as number;
  let model: OnnxModel | undefined;
  for await (const field of fieldsOf(cursor, size, 'the model')) {
    if (field.number === 7 && field.type === BYTES) {
      if (model) cursor.fail(`a second graph at byte ${cursor.position}`);
      model = await readGraph(cursor, field.end);
    } else if (field.number === 25) {
      cursor.fail('the model has functions of its own, which are not read');
    }
  }
  return model ?? cursor.fail('an ONNX model without a graph');
}

async function readGraph(cursor: ByteCursor, end: number): Promise<OnnxModel> {
  const nodes: OnnxNode[] = [];
  const tensors = new Map<string, OnnxTensor>();
  const inputs: string[] = [];
  const outputs: string[] = [];
  for await (const field of fieldsOf(cursor, end, 'the graph')) {
    if (field.type !== BYTES) continue;
    const at = cursor.position;
    switch (field.number) {
      case 1:
        if (nodes.length === MAX_NODES) cursor.fail(`the graph has over ${MAX_NODES} nodes`);
        nodes.push(await readNode(cursor, field.end, nodes.length));
        break;
      case 5: {
        if (tensors.size === MAX_NODES) cursor.fail(`the graph has over ${MAX_NODES} initializers`);
        const tensor = await readTensor(cursor, field.end);
        if (tensors.has(tensor.name))
          cursor.fail(`two initializers are called ${quoteName(tensor.name)}, the second at byte ${at}`);
        tensors.set(tensor.name, tensor);
        break;
      }
      case 11:
        inputs.push(readValueName(await takeMessage(cursor, field, 'an input'), cursor, at));
        break;
      case 12:
        outputs.push(readValueName(await takeMessage(cursor, field, 'an output'), cursor, at));
        break;
      case 15:
        cursor.fail(`a sparse initializer at byte ${at}`);
    }
  }
  return { nodes, tensors, inputs, outputs };
}

async function takeMessage(cursor: ByteCursor, field: FileField, what: string): Promise<Uint8Array> {
  const length = field.end - cursor.position;
  if (length > MAX_FIELD_BYTES) {
    cursor.fail(`${what} at byte ${cursor.position} has ${length} bytes, over the limit of ${MAX_FIELD_BYTES}`);
  }
  return cursor.take(length, what);
}

async function takeText(cursor: ByteCursor, field: FileField, what: string): Promise<string> {
  if (field.type !== BYTES) cursor.fail(`${what} at byte ${cursor.position} is no text`);
  return new TextDecoder().decode(await takeMessage(cursor, field, what));
}

async function readNode(cursor: ByteCursor, end: number, index: number): Promise<OnnxNode> {
  const what = `node ${index} at byte ${cursor.position}`;
  const node = { name: '', op: '', domain: '' };
  const inputs: string[] = [];
  const outputs: string[] = [];
  const attributes = new Map<string, OnnxAttribute>();
  for await (const field of fieldsOf(cursor, end, what)) {
    if (field.number === 1) inputs.push(await takeText(cursor, field, what));
    else if (field.number === 2) outputs.push(await takeText(cursor, field, what));
    else if (field.number === 3) node.name = await takeText(cursor, field, what);
    else if (field.number === 4) node.op = await takeText(cursor, field, what);
    else if (field.number === 7) node.domain = await takeText(cursor, field, what);
    else if (field.number === 5 && field.type === BYTES) {
      const [name, attribute] = await readAttribute(cursor, field.end, what);
      if (name === '') cursor.fail(`${what} has an attribute without a name`);
      if (attributes.has(name)) cursor.fail(`${what} has the attribute ${quoteName(name)} twice`);
      attributes.set(name, attribute);
    }
  }
  const standard = node.domain === '' || node.domain === 'ai.onnx';
  return { index, name: node.name, op: standard ? node.op : `${node.domain}.${node.op}`, inputs, outputs, attributes };
}

async function readAttribute(cursor: ByteCursor, end: number, node: string): Promise<[string, OnnxAttribute]> {
  const what = `an attribute of ${node}`;
  let name = '';
  const integers: number[] = [];
  const floats: number[] = [];
  const found: { -readonly [Key in keyof OnnxAttribute]: OnnxAttribute[Key] } = {};
  for await (const field of fieldsOf(cursor, end, what)) {
    const { number, type } = field;
    if (number === 1) name = await takeText(cursor, field, what);
    else if (number === 2 && type === FIXED32) found.float = floatsIn(await cursor.take(4, what))[0];
    else if (number === 3 && type === VARINT) found.integer = field.value;
    else if (number === 4 && type === BYTES) found.text = await takeText(cursor, field, what);
    else if (number === 5 && type === BYTES) found.tensor = await readTensor(cursor, field.end);
    else if (number === 7) {
      floats.push(...floatsIn(type === FIXED32 ? await cursor.take(4, what) : await takeMessage(cursor, field, what)));
    } else if (number === 8) {
      integers.push(...(await takeVarints(cursor, field, what)));
    } else if (number !== 13 && number !== 20) found.other = true;
  }
  if (integers.length > 0) found.integers = integers;
  if (floats.length > 0) found.floats = floats;
  return [name, found];
}

function floatsIn(bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: Math.floor(bytes.length / 4) }, (_, i) => view.getFloat32(4 * i, true));
}

/** Integers, one or packed. */
async function takeVarints(cursor: ByteCursor, field: FileField, what: string): Promise<number[]> {
  if (field.type === VARINT) return [field.value];
  if (field.type !== BYTES) cursor.fail(`${what} has integers that are none`);
  const values: number[] = [];
  const bytes = await takeMessage(cursor, field, what);
  new Message(bytes, () => cursor.fail(`${what} has integers that are none`)).packed(values);
  return values;
}

function decodeInt64(bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: Math.floor(bytes.length / 8) }, (_, i) => Number(view.getBigInt64(8 * i, true)));
}

function readValueName(bytes: Uint8Array, cursor: ByteCursor, at: number): string {
  const message = new Message(bytes, () => cursor.fail(`an input or output at byte ${at} is not a message`));
  let name = '';
  while (message.next()) {
    if (message.number === 1) name = message.text();
    else message.skip();
  }
  return name;
}

interface Values {
  readonly field: number;
  readonly start: number;
  readonly length: number;
}

async function readTensor(cursor: ByteCursor, end: number): Promise<OnnxTensor> {
  const at = cursor.position;
  const fail = (what: string): never => cursor.fail(`initializer at byte ${at}: ${what}`);
  const dims: number[] = [];
  let name = '';
  let type = 0;
  let values: Values | undefined;
  let integers: number[] | undefined;
  let isExternal = false;
  const external = new Map<string, string>();
  for await (const field of fieldsOf(cursor, end, 'an initializer')) {
    const length = field.end - cursor.position;
    if (field.number === 1) {
      dims.push(...(await takeVarints(cursor, field, 'a shape')));
      if (dims.length > MAX_DIMENSIONS) fail(`it has over ${MAX_DIMENSIONS} dimensions`);
    } else if (field.number === 2 && field.type === VARINT) {
      type = field.value;
    } else if (field.number === 8 && field.type === BYTES) {
      if (length > MAX_NAME_BYTES) fail(`a name of ${length} bytes`);
      name = new TextDecoder().decode(await cursor.take(length, 'a name'));
    } else if (field.number === 13 && field.type === BYTES && external.size < MAX_DIMENSIONS) {
      const [key, value] = readPair(await takeMessage(cursor, field, 'external data'), fail);
      external.set(key, value);
    } else if (field.number === 14 && field.value !== 0) {
      isExternal = true;
    } else if ([4, 5, 7, 9, 10, 11].includes(field.number)) {
      // float_data, int32_data, int64_data, raw_data, double_data, uint64_data: each in one piece.
      if (field.type !== BYTES || values) fail('its values are not in one piece');
      values = { field: field.number, start: cursor.position, length };
      // Shapes are so small; a type that comes behind its values is no exporter's.
      if (type === INT64 && length <= 8 * MAX_DIMENSIONS) {
        integers =
          field.number === 7
            ? await takeVarints(cursor, field, 'a shape')
            : decodeInt64(await cursor.take(length, 'a shape'));
      }
    }
  }
  const failWith = (what: string): never => fail(`${quoteName(name)}: ${what}`);
  const place = isExternal ? readExternal(external, failWith) : undefined;
  const tensor = placeTensor({ name, dims, type }, place ? undefined : values, failWith, place);
  return { ...tensor, integers };
}

function readPair(bytes: Uint8Array, fail: (what: string) => never): [string, string] {
  const message = new Message(bytes, () => fail('its external data is none'));
  let key = '';
  let value = '';
  while (message.next()) {
    if (message.number === 1) key = message.text();
    else if (message.number === 2) value = message.text();
    else message.skip();
  }
  return [key, value];
}

/** A relative path within the model's folder, as ONNX demands. */
function readExternal(
  fields: ReadonlyMap<string, string>,
  fail: (what: string) => never,
): ExternalData & { length: number | undefined } {
  const location = fields.get('location') ?? '';
  const parts = location.split(/[/\\]/);
  if (location === '' || /^[a-z]+:|\0/i.test(location) || parts.includes('..') || parts[0] === '') {
    fail(`its values are in ${quoteName(location)}, which is no file beside the model`);
  }
  const count = (key: string): number | undefined => {
    const text = fields.get(key);
    if (text === undefined) return undefined;
    const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
    return Number.isSafeInteger(value) ? value : fail(`its external data has a wrong ${key}, ${quoteName(text)}`);
  };
  return { location, offset: count('offset') ?? 0, length: count('length') };
}

function placeTensor(
  { name, dims, type }: { name: string; dims: readonly number[]; type: number },
  values: Values | undefined,
  fail: (what: string) => never,
  external: (ExternalData & { length: number | undefined }) | undefined,
): Omit<OnnxTensor, 'integers'> {
  let count = 1;
  for (const size of dims) {
    count *= size;
    if (size < 0 || !Number.isSafeInteger(count * 8)) fail(`its shape [${dims.join(', ')}] is none`);
  }
  const [dtype, width] = DTYPES[type] ?? [`type ${type}`, 0];
  const byteLength = count * width;
  const fileBytes = external ? (external.length ?? byteLength) : (values?.length ?? 0);
  // Halves as varints of one to three bytes; integers, which are only looked at, as varints too.
  const varints = values !== undefined && [5, 7, 11].includes(values.field);
  if (width > 0 && !varints && fileBytes !== byteLength) {
    fail(`shape [${dims.join(', ')}] of ${dtype} needs ${byteLength} bytes, and it has ${fileBytes}`);
  }
  if (varints && (fileBytes < count || fileBytes > count * 10)) fail(`${count} values cannot have ${fileBytes} bytes`);
  const wrong = { F32: [5, 7, 10, 11], F64: [4, 5, 7, 11], F16: [4, 7, 10, 11], BF16: [4, 7, 10, 11] }[dtype];
  if (values && wrong?.includes(values.field)) fail(`its values are in the field of another dtype than ${dtype}`);
  return {
    name,
    dims,
    dtype,
    width,
    start: values?.start,
    external: external && { location: external.location, offset: external.offset },
    fileBytes,
    varints,
    byteLength,
    label: `initializer ${quoteName(name)}`,
  };
}
