import { pause } from '../platform/event-loop.js';
import { Tensor } from '../tensor.js';
import { type AnswerLimits, SMALL_ANSWER, streamed } from './answer.js';
import type { Lease } from './budget.js';
import { quote, RequestError } from './failure.js';
import { parseDocument } from './json-tensor.js';

/*
 * Messages of the Open Inference Protocol v2 over HTTP, with its binary tensor extension
 * (https://github.com/kserve/open-inference-protocol): JSON, and after it the tensors' bytes, little-endian.
 */

/** The extension's header: how many bytes of the body are JSON. */
export const JSON_LENGTH_HEADER = 'Inference-Header-Content-Length';

export interface InferRequest {
  readonly id: string | undefined;
  readonly input: Tensor;
  readonly outputs: readonly InferOutput[];
}

export interface InferOutput {
  readonly name: string;
  readonly binary: boolean;
}

/** What an input may have at most. */
export interface InputLimits {
  /** N. */
  readonly maxImages: number;
  /** H times W. */
  readonly maxInputPixels: number;
  /** Numbers in all. */
  readonly maxValues: number;
}

const INPUT = 'input';
/** The most outputs that one request may ask for. */
const MAX_OUTPUTS = 64;
const MAX_ID_CHARS = 1024;

/**
 * @param jsonLength the header's value, or null
 * @throws RequestError 400 with what is wrong, 413 over a limit
 */
export async function parseInfer(
  body: Uint8Array<ArrayBuffer>,
  jsonLength: string | null,
  limits: InputLimits,
): Promise<InferRequest> {
  const length = jsonLength === null ? body.length : Number(jsonLength);
  if (!Number.isInteger(length) || length < 0 || length > body.length) {
    throw invalid(`${JSON_LENGTH_HEADER} must be from 0 to the body's ${body.length} bytes, got ${quote(jsonLength)}`);
  }
  const { value, data } = await parseDocument(body.subarray(0, length), limits.maxValues);
  const request = asObject(value, 'The request');
  const { id, inputs, outputs } = request;
  if (id !== undefined && typeof id !== 'string') throw invalid(`id must be a string, got ${typeof id}`);
  if (id !== undefined && id.length > MAX_ID_CHARS) throw invalid(`id may have at most ${MAX_ID_CHARS} characters`);
  if (!Array.isArray(inputs) || inputs.length !== 1) {
    throw invalid(`inputs must be a list of one tensor, '${INPUT}'`);
  }
  return {
    id,
    input: parseInput(asObject(inputs[0], 'inputs[0]'), data, body.subarray(length), limits),
    outputs: parseOutputs(outputs, parametersOf(request, 'the request').binary_data_output === true),
  };
}

type Json = Readonly<Record<string, unknown>>;

function asObject(value: unknown, what: string): Json {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  throw invalid(`${what} must be an object`);
}

function parametersOf({ parameters }: Json, what: string): Json {
  return parameters === undefined ? {} : asObject(parameters, `parameters of ${what}`);
}

function parseInput(
  input: Json,
  data: Float32Array | undefined,
  binary: Uint8Array<ArrayBuffer>,
  limits: InputLimits,
): Tensor {
  const { name, datatype } = input;
  if (name !== INPUT) throw invalid(`The model's input is '${INPUT}', got ${quote(name)}`);
  if (datatype !== 'FP32') throw invalid(`datatype must be FP32, got ${quote(datatype)}`);
  const shape = parseShape(input.shape, limits);
  const count = shape.reduce((product, size) => product * size, 1);
  const bytes = parametersOf(input, `'${INPUT}'`).binary_data_size;
  if (bytes === undefined) {
    if (binary.length > 0) throw invalid(`${binary.length} bytes follow the JSON, and no tensor has binary_data_size`);
    // Lists of numbers were read into `data`, and anything else is as it came.
    if (!data || input.data !== true) {
      const got = input.data === undefined ? 'none' : typeof input.data;
      throw invalid(`data must be a list of ${count} numbers, got ${got}`);
    }
    if (data.length !== count) {
      throw invalid(`data must have ${count} numbers, as the shape says, got ${data.length}`);
    }
    return new Tensor(data, shape);
  }
  if (input.data !== undefined) throw invalid('A tensor has either data or binary_data_size, got both');
  if (bytes !== count * 4 || binary.length !== bytes) {
    throw invalid(
      `A tensor [${shape.join(', ')}] of FP32 has ${count * 4} bytes, got binary_data_size ${quote(bytes)} and ${binary.length} bytes`,
    );
  }
  return new Tensor(fromLittleEndian(binary), shape);
}

function parseShape(shape: unknown, { maxImages, maxInputPixels, maxValues }: InputLimits): number[] {
  const sizes = Array.isArray(shape) && shape.length === 4 ? (shape as unknown[]) : [];
  if (sizes.length !== 4 || !sizes.every((size) => Number.isSafeInteger(size) && (size as number) > 0)) {
    throw invalid(`shape must be [N, C, H, W], four positive integers, got ${quote(shape)}`);
  }
  const [n, c, h, w] = sizes as [number, number, number, number];
  if (n > maxImages || h * w > maxInputPixels || n * c * h * w > maxValues) {
    throw new RequestError(
      413,
      'INPUT_TOO_LARGE',
      `An input may have at most ${maxImages} images of ${maxInputPixels} pixels and ${maxValues} values, got [${n}, ${c}, ${h}, ${w}]`,
    );
  }
  return [n, c, h, w];
}

function parseOutputs(outputs: unknown, allBinary: boolean): InferOutput[] {
  if (outputs === undefined) return [{ name: 'logits', binary: allBinary }];
  if (!Array.isArray(outputs) || outputs.length === 0) throw invalid('outputs must be a list of at least one name');
  if (outputs.length > MAX_OUTPUTS) throw invalid(`outputs may have at most ${MAX_OUTPUTS} names`);
  return outputs.map((output, i) => {
    const one = asObject(output, `outputs[${i}]`);
    if (typeof one.name !== 'string') throw invalid(`outputs[${i}] must have a name`);
    const binary = parametersOf(one, `outputs[${i}]`).binary_data;
    return { name: one.name, binary: binary === undefined ? allBinary : binary === true };
  });
}

function invalid(message: string): RequestError {
  return new RequestError(400, 'INVALID_REQUEST', message);
}

/** What a number takes at most in JSON, such as -1.1754943508222875e-38 and a comma. */
const MAX_NUMBER_BYTES = 24;

/** The most bytes of an answer's outputs, as JSON or binary. */
export function outputBytes(outputs: readonly InferOutput[], sizes: readonly number[]): number {
  return outputs.reduce((sum, { binary }, i) => sum + (sizes[i] as number) * (binary ? 4 : MAX_NUMBER_BYTES), 0);
}

interface InferHead {
  readonly model_name: string;
  readonly model_version: string;
  readonly id?: string | undefined;
}

/**
 * The answer: JSON, with the binary tensors after it. A large one is written while it is read.
 * @param lease of the outputs' memory; it is given back when the answer has been read
 * @throws RequestError 422 if an output as JSON has values that JSON cannot hold
 */
export async function inferResponse(
  head: InferHead,
  outputs: readonly InferOutput[],
  tensors: readonly Tensor[],
  limits: AnswerLimits,
  lease: Lease | undefined,
): Promise<Response> {
  for (const [i, { name, binary }] of outputs.entries()) {
    if (!binary) checkFinite(name, (tensors[i] as Tensor).data);
  }
  const sizes = tensors.map(({ data }) => data.length);
  const isSmall = outputBytes(outputs, sizes) <= SMALL_ANSWER;
  const binaries = outputs.flatMap(({ binary }, i) => (binary ? [littleEndian((tensors[i] as Tensor).data)] : []));
  if (binaries.length === 0) {
    const parts = encoded(jsonText(head, outputs, tensors));
    const type = { 'Content-Type': 'application/json' };
    if (!isSmall) return new Response(streamed(parts, limits, lease), { headers: type });
    lease?.release();
    return new Response([...jsonText(head, outputs, tensors)].join(''), { headers: type });
  }
  // The JSON's length comes before it, so it is written twice where it is too long to be kept.
  let length = 0;
  for (const part of encoded(jsonText(head, outputs, tensors))) {
    length += part.length;
    if (!isSmall) await pause();
  }
  const total = binaries.reduce((sum, bytes) => sum + bytes.length, length);
  const headers = {
    'Content-Type': 'application/octet-stream',
    [JSON_LENGTH_HEADER]: String(length),
    'Content-Length': String(total),
  };
  const parts = chain(encoded(jsonText(head, outputs, tensors)), pieces(binaries));
  if (!isSmall) return new Response(streamed(parts, limits, lease), { headers });
  lease?.release();
  const all = new Uint8Array(total);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return new Response(all, { headers });
}

/** Values in one part of an answer: a millisecond's work. */
const SLICE = 2048;

/** The JSON in parts, of which each is a short text. */
function* jsonText(head: InferHead, outputs: readonly InferOutput[], tensors: readonly Tensor[]): Generator<string> {
  const start = JSON.stringify({ ...head, outputs: [] });
  yield start.slice(0, -2);
  for (const [i, { name, binary }] of outputs.entries()) {
    const { data, shape } = tensors[i] as Tensor;
    const common = JSON.stringify({ name, datatype: 'FP32', shape });
    yield `${i > 0 ? ',' : ''}${common.slice(0, -1)},`;
    if (binary) {
      yield `"parameters":{"binary_data_size":${data.length * 4}}}`;
      continue;
    }
    yield '"data":[';
    for (let at = 0; at < data.length; at += SLICE) {
      yield `${at > 0 ? ',' : ''}${data.subarray(at, at + SLICE).join()}`;
    }
    yield ']}';
  }
  yield ']}';
}

function* encoded(texts: Iterable<string>): Generator<Uint8Array> {
  const encoder = new TextEncoder();
  for (const text of texts) yield encoder.encode(text);
}

/** Bytes in parts of the size that sockets take. */
function* pieces(arrays: readonly Uint8Array[]): Generator<Uint8Array> {
  for (const bytes of arrays) {
    for (let at = 0; at < bytes.length; at += SMALL_ANSWER) yield bytes.subarray(at, at + SMALL_ANSWER);
  }
}

function* chain<T>(...all: readonly Iterable<T>[]): Generator<T> {
  for (const each of all) yield* each;
}

function checkFinite(name: string, data: Float32Array): void {
  if (data.every(Number.isFinite)) return;
  throw new RequestError(
    422,
    'NOT_FINITE',
    `'${name}' has values that are not finite, which JSON cannot hold: ask for it with binary_data`,
  );
}

const IS_LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** The values' bytes; without a copy on almost every machine. */
function littleEndian(data: Float32Array): Uint8Array {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return IS_LITTLE_ENDIAN ? bytes : swapped(bytes);
}

function fromLittleEndian(bytes: Uint8Array<ArrayBuffer>): Float32Array {
  const own = IS_LITTLE_ENDIAN ? bytes : swapped(bytes);
  if (own.byteOffset % 4 === 0) return new Float32Array(own.buffer, own.byteOffset, own.length / 4);
  return new Float32Array(own.slice().buffer);
}

function swapped(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(bytes, (_, i) => bytes[(i & ~3) + 3 - (i & 3)] as number);
}
