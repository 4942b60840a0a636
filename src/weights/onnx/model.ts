import type { ByteCursor } from '../bytes/cursor.js';
import type { Storage } from '../bytes/view.js';
import { quoteName } from '../safetensors/header.js';
import { BYTES, type FileField, fieldsOf, Message, VARINT } from './protobuf.js';

/*
 * What is in an ONNX file: the nodes of its graph, and of each initialiser what and where it is. Fields by number:
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

export interface OnnxAttribute {
  readonly float: number | undefined;
  readonly integer: number | undefined;
  readonly text: string | undefined;
  readonly integers: readonly number[];
  /** Those of a tensor of them. */
  readonly tensor: readonly number[] | undefined;
}

/** An initialiser, a storage of its own. */
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

const MAX_NODE_BYTES = 2 ** 18;
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
        nodes.push(readNode(await takeMessage(cursor, field, `node ${nodes.length}`), nodes.length, cursor, at));
        break;
      case 5: {
        if (tensors.size === MAX_NODES) cursor.fail(`the graph has over ${MAX_NODES} initialisers`);
        const tensor = await readTensor(cursor, field.end);
        if (tensors.has(tensor.name))
          cursor.fail(`two initialisers are called ${quoteName(tensor.name)}, the second at byte ${at}`);
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
        cursor.fail(`a sparse initialiser at byte ${at}`);
    }
  }
  return { nodes, tensors, inputs, outputs };
}

async function takeMessage(cursor: ByteCursor, field: FileField, what: string): Promise<Uint8Array> {
  const length = field.end - cursor.position;
  if (length > MAX_NODE_BYTES) {
    cursor.fail(
      `${what} at byte ${cursor.position} has ${length} bytes, over the limit of ${MAX_NODE_BYTES}: weights must be initialisers`,
    );
  }
  return cursor.take(length, what);
}

function readNode(bytes: Uint8Array, index: number, cursor: ByteCursor, at: number): OnnxNode {
  const message = new Message(bytes, () => cursor.fail(`node ${index} at byte ${at} is not a message`));
  const node = { name: '', op: '', domain: '' };
  const inputs: string[] = [];
  const outputs: string[] = [];
  const attributes = new Map<string, OnnxAttribute>();
  while (message.next()) {
    if (message.number === 1) inputs.push(message.text());
    else if (message.number === 2) outputs.push(message.text());
    else if (message.number === 3) node.name = message.text();
    else if (message.number === 4) node.op = message.text();
    else if (message.number === 7) node.domain = message.text();
    else if (message.number === 5) {
      const [name, attribute] = readAttribute(message.inner());
      attributes.set(name, attribute);
    } else message.skip();
  }
  const standard = node.domain === '' || node.domain === 'ai.onnx';
  return { index, name: node.name, op: standard ? node.op : `${node.domain}.${node.op}`, inputs, outputs, attributes };
}

function readAttribute(message: Message): [string, OnnxAttribute] {
  let name = '';
  let float: number | undefined;
  let integer: number | undefined;
  let text: string | undefined;
  const integers: number[] = [];
  let tensor: number[] | undefined;
  while (message.next()) {
    if (message.number === 1) name = message.text();
    else if (message.number === 2) float = message.float();
    else if (message.number === 3) integer = message.integer();
    else if (message.number === 4) text = message.text();
    else if (message.number === 5) tensor = readIntegers(message.inner());
    else if (message.number === 8) message.integers(integers);
    else message.skip();
  }
  return [name, { float, integer, text, integers, tensor }];
}

/** The values of a tensor of int64 in a node; undefined for another. */
function readIntegers(message: Message): number[] | undefined {
  let type = 0;
  const values: number[] = [];
  while (message.next()) {
    if (message.number === 2) type = message.integer();
    else if (message.number === 7) message.integers(values);
    else if (message.number === 9) values.push(...decodeInt64(message.bytes().subarray(0, 8 * MAX_DIMENSIONS)));
    else message.skip();
  }
  return type === INT64 ? values : undefined;
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

async function readTensor(cursor: ByteCursor, end: number): Promise<OnnxTensor> {
  const at = cursor.position;
  const fail = (what: string): never => cursor.fail(`initialiser at byte ${at}: ${what}`);
  const dims: number[] = [];
  let name = '';
  let type = 0;
  let values: { field: number; start: number; length: number } | undefined;
  let integers: number[] | undefined;
  for await (const field of fieldsOf(cursor, end, 'an initialiser')) {
    const length = field.end - cursor.position;
    if (field.number === 1) {
      if (field.type === VARINT) dims.push(field.value);
      else if (field.type === BYTES && length <= 10 * MAX_DIMENSIONS) {
        const message = new Message(packed(await cursor.take(length, 'a shape')), () => fail('its shape is none'));
        message.next();
        message.integers(dims);
      } else fail('its shape is none');
      if (dims.length > MAX_DIMENSIONS) fail(`it has over ${MAX_DIMENSIONS} dimensions`);
    } else if (field.number === 2 && field.type === VARINT) {
      type = field.value;
    } else if (field.number === 8 && field.type === BYTES) {
      if (length > MAX_NAME_BYTES) fail(`a name of ${length} bytes`);
      name = new TextDecoder().decode(await cursor.take(length, 'a name'));
    } else if (field.number === 14 && field.value !== 0) {
      fail(`the values of ${quoteName(name)} are in another file, which is not read`);
    } else if ([4, 5, 7, 9, 10, 11].includes(field.number)) {
      // float_data, int32_data, int64_data, raw_data, double_data, uint64_data: each in one piece.
      if (field.type !== BYTES || values) fail('its values are not in one piece');
      values = { field: field.number, start: cursor.position, length };
      // Shapes are so small; a type that comes behind its values is no exporter's.
      if (type === INT64 && length <= 8 * MAX_DIMENSIONS) integers = await takeIntegers(cursor, field, fail);
    }
  }
  return { ...placeTensor({ name, dims, type }, values, (what) => fail(`${quoteName(name)}: ${what}`)), integers };
}

async function takeIntegers(cursor: ByteCursor, field: FileField, fail: (what: string) => never): Promise<number[]> {
  const bytes = await cursor.take(field.end - cursor.position, 'an initialiser');
  if (field.number !== 7) return decodeInt64(bytes);
  const values: number[] = [];
  const message = new Message(packed(bytes), () => fail('its values are none'));
  message.next();
  message.integers(values);
  return values;
}

/** Puts a tag and a length before packed values, so that they are a message. */
function packed(values: Uint8Array): Uint8Array {
  return Uint8Array.of(10, values.length, ...values);
}

function placeTensor(
  { name, dims, type }: { name: string; dims: readonly number[]; type: number },
  values: { field: number; start: number; length: number } | undefined,
  fail: (what: string) => never,
): Omit<OnnxTensor, 'integers'> {
  let count = 1;
  for (const size of dims) {
    count *= size;
    if (size < 0 || !Number.isSafeInteger(count * 8)) fail(`its shape [${dims.join(', ')}] is none`);
  }
  const [dtype, width] = DTYPES[type] ?? [`type ${type}`, 0];
  const byteLength = count * width;
  const fileBytes = values?.length ?? 0;
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
    fileBytes,
    varints,
    byteLength,
    label: `initialiser ${quoteName(name)}`,
  };
}
