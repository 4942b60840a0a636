import { messageOf } from '../errors.js';
import { Tensor } from '../tensor.js';
import { RequestError } from './failure.js';

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

const INPUT = 'input';

/**
 * @param jsonLength the header's value, or null
 * @throws RequestError 400 with what is wrong
 */
export function parseInfer(body: ArrayBuffer, jsonLength: string | null): InferRequest {
  const length = jsonLength === null ? body.byteLength : Number(jsonLength);
  if (!Number.isInteger(length) || length < 0 || length > body.byteLength) {
    throw invalid(`${JSON_LENGTH_HEADER} must be from 0 to the body's ${body.byteLength} bytes, got ${jsonLength}`);
  }
  const request = parseObject(new Uint8Array(body, 0, length));
  const { id, inputs, outputs } = request;
  if (id !== undefined && typeof id !== 'string') throw invalid(`id must be a string, got ${typeof id}`);
  if (!Array.isArray(inputs) || inputs.length !== 1) {
    throw invalid(`inputs must be a list of one tensor, '${INPUT}'`);
  }
  return {
    id,
    input: parseInput(asObject(inputs[0], 'inputs[0]'), new Uint8Array(body, length)),
    outputs: parseOutputs(outputs, parametersOf(request, 'the request').binary_data_output === true),
  };
}

type Json = Readonly<Record<string, unknown>>;

function parseObject(bytes: Uint8Array): Json {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw invalid(`The request is not JSON: ${messageOf(error)}`);
  }
  return asObject(value, 'The request');
}

function asObject(value: unknown, what: string): Json {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  throw invalid(`${what} must be an object`);
}

function parametersOf({ parameters }: Json, what: string): Json {
  return parameters === undefined ? {} : asObject(parameters, `parameters of ${what}`);
}

function parseInput(input: Json, binary: Uint8Array): Tensor {
  const { name, datatype, shape, data } = input;
  if (name !== INPUT) throw invalid(`The model's input is '${INPUT}', got ${JSON.stringify(name)}`);
  if (datatype !== 'FP32') throw invalid(`datatype must be FP32, got ${JSON.stringify(datatype)}`);
  const sizes = Array.isArray(shape) ? (shape as unknown[]) : [];
  if (sizes.length !== 4 || !sizes.every((size) => Number.isInteger(size) && (size as number) > 0)) {
    throw invalid(`shape must be [N, C, H, W], four positive integers, got ${JSON.stringify(shape)}`);
  }
  const count = sizes.reduce<number>((product, size) => product * (size as number), 1);
  const bytes = parametersOf(input, `'${INPUT}'`).binary_data_size;
  if (bytes === undefined) {
    if (binary.length > 0) throw invalid(`${binary.length} bytes follow the JSON, and no tensor has binary_data_size`);
    return new Tensor(numbers(data, count), sizes as number[]);
  }
  if (data !== undefined) throw invalid('A tensor has either data or binary_data_size, got both');
  if (bytes !== count * 4 || binary.length !== bytes) {
    throw invalid(
      `A tensor [${sizes.join(', ')}] of FP32 has ${count * 4} bytes, got binary_data_size ${String(bytes)} and ${binary.length} bytes`,
    );
  }
  const view = new DataView(binary.buffer, binary.byteOffset, binary.byteLength);
  return new Tensor(
    Float32Array.from({ length: count }, (_, i) => view.getFloat32(i * 4, true)),
    sizes as number[],
  );
}

/** Numbers in a list, or in lists of lists, in row-major order. */
function numbers(data: unknown, count: number): Float32Array {
  if (!Array.isArray(data))
    throw invalid(`data must be a list of ${count} numbers, got ${data === undefined ? 'none' : typeof data}`);
  const flat: unknown[] = data.some(Array.isArray) ? data.flat(3) : data;
  if (flat.length !== count) throw invalid(`data must have ${count} numbers, as the shape says, got ${flat.length}`);
  const values = new Float32Array(count);
  flat.forEach((value, i) => {
    if (typeof value !== 'number') throw invalid(`data[${i}] must be a number, got ${JSON.stringify(value)}`);
    values[i] = value;
  });
  return values;
}

function parseOutputs(outputs: unknown, allBinary: boolean): InferOutput[] {
  if (outputs === undefined) return [{ name: 'logits', binary: allBinary }];
  if (!Array.isArray(outputs) || outputs.length === 0) throw invalid('outputs must be a list of at least one name');
  const parsed = outputs.map((output, i) => {
    const one = asObject(output, `outputs[${i}]`);
    if (typeof one.name !== 'string') throw invalid(`outputs[${i}] must have a name`);
    const binary = parametersOf(one, one.name).binary_data;
    return { name: one.name, binary: binary === undefined ? allBinary : binary === true };
  });
  if (new Set(parsed.map(({ name }) => name)).size < parsed.length)
    throw invalid('outputs must differ from each other');
  return parsed;
}

function invalid(message: string): RequestError {
  return new RequestError(400, 'INVALID_REQUEST', message);
}

/**
 * The answer: JSON, with the binary tensors after it.
 * @throws RequestError 422 if an output as JSON has values that JSON cannot hold
 */
export function inferResponse(
  head: { readonly model_name: string; readonly model_version: string; readonly id?: string | undefined },
  outputs: readonly InferOutput[],
  tensors: readonly Tensor[],
): Response {
  const binaries: Uint8Array<ArrayBuffer>[] = [];
  const described = outputs.map(({ name, binary }, i) => {
    const { data, shape } = tensors[i] as Tensor;
    const common = { name, datatype: 'FP32', shape };
    if (!binary) return { ...common, data: finiteNumbers(name, data) };
    const bytes = littleEndian(data);
    binaries.push(bytes);
    return { ...common, parameters: { binary_data_size: bytes.length } };
  });
  const json = JSON.stringify({ ...head, outputs: described });
  if (binaries.length === 0) return new Response(json, { headers: { 'Content-Type': 'application/json' } });
  const text = new TextEncoder().encode(json);
  return new Response(new Blob([text, ...binaries]), {
    headers: { 'Content-Type': 'application/octet-stream', [JSON_LENGTH_HEADER]: String(text.length) },
  });
}

function finiteNumbers(name: string, data: Float32Array): number[] {
  const values = Array.from(data);
  if (values.every(Number.isFinite)) return values;
  throw new RequestError(
    422,
    'NOT_FINITE',
    `'${name}' has values that are not finite, which JSON cannot hold: ask for it with binary_data`,
  );
}

function littleEndian(data: Float32Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(data.length * 4);
  const view = new DataView(bytes.buffer);
  data.forEach((value, i) => {
    view.setFloat32(i * 4, value, true);
  });
  return bytes;
}
