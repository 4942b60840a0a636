/** Bits of one element of every dtype that safetensors knows. */
export const DTYPE_BITS: ReadonlyMap<string, number> = new Map([
  ['BOOL', 8],
  ['F4', 4],
  ['F6_E2M3', 6],
  ['F6_E3M2', 6],
  ['U8', 8],
  ['I8', 8],
  ['F8_E5M2', 8],
  ['F8_E4M3', 8],
  ['F8_E8M0', 8],
  ['I16', 16],
  ['U16', 16],
  ['F16', 16],
  ['BF16', 16],
  ['I32', 32],
  ['U32', 32],
  ['F32', 32],
  ['C64', 64],
  ['F64', 64],
  ['I64', 64],
  ['U64', 64],
]);

/** The dtypes whose values can become float32 weights. */
export type FloatDtype = 'F32' | 'F16' | 'BF16' | 'F64';

const FLOAT_DTYPES: ReadonlySet<string> = new Set<FloatDtype>(['F32', 'F16', 'BF16', 'F64']);

export function isFloatDtype(dtype: string): dtype is FloatDtype {
  return FLOAT_DTYPES.has(dtype);
}

/** The dtypes of low-precision weights. */
export type ByteDtype = 'I8' | 'U8';

export function isByteDtype(dtype: string): dtype is ByteDtype {
  return dtype === 'I8' || dtype === 'U8';
}

/** Batch norm's count of batches: an integer that no layer here uses. */
export function isBatchCount(name: string): boolean {
  return name === 'num_batches_tracked' || name.endsWith('.num_batches_tracked');
}

/**
 * Converts little-endian values to float32. F16 and BF16 are exact (subnormals, infinities and NaN too); F64 is
 * rounded to nearest, ties to even.
 * @param bytes starts at a multiple of 8 in its buffer, and is kept by nobody but for F32, which is not copied
 */
export function toFloat32(bytes: Uint8Array<ArrayBuffer>, dtype: FloatDtype): Float32Array<ArrayBuffer> {
  const { buffer, byteOffset, byteLength } = bytes;
  switch (dtype) {
    case 'F32':
      return new Float32Array(buffer, byteOffset, byteLength / 4);
    case 'F64':
      return new Float32Array(new Float64Array(buffer, byteOffset, byteLength / 8));
    case 'F16':
      return widen(new Uint16Array(buffer, byteOffset, byteLength / 2), halfTable());
    case 'BF16': {
      const half = new Uint16Array(buffer, byteOffset, byteLength / 2);
      const out = new Int32Array(half.length);
      for (let i = 0; i < half.length; i++) out[i] = (half[i] as number) << 16;
      return new Float32Array(out.buffer);
    }
  }
}

/** Through bits and not floats, so that a NaN keeps its payload. */
function widen(half: Uint16Array, table: Int32Array): Float32Array<ArrayBuffer> {
  const out = new Int32Array(half.length);
  for (let i = 0; i < half.length; i++) out[i] = table[half[i] as number] as number;
  return new Float32Array(out.buffer);
}

let cachedHalfTable: Int32Array | undefined;

/** The float32 bits of every float16: 256 KiB, made when first asked for. */
function halfTable(): Int32Array {
  if (cachedHalfTable) return cachedHalfTable;
  const table = new Int32Array(2 ** 16);
  const value = new Float32Array(1);
  const bits = new Int32Array(value.buffer);
  for (let half = 0; half < 2 ** 15; half++) {
    const exponent = half >> 10;
    const fraction = half & 0x3ff;
    if (exponent === 0) value[0] = fraction * 2 ** -24;
    else bits[0] = ((exponent === 31 ? 255 : exponent + 112) << 23) | (fraction << 13);
    table[half] = bits[0] as number;
    table[half | 0x8000] = (bits[0] as number) | 0x8000_0000;
  }
  cachedHalfTable = table;
  return table;
}

/** Rounds float32 to float16, to nearest and ties to even as PyTorch's `half()`; over 65504 becomes infinity. */
export function toFloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const out = new Uint16Array(values.length);
  const magnitude = new Float32Array(1);
  const bits = new Int32Array(magnitude.buffer);
  for (let i = 0; i < values.length; i++) {
    magnitude[0] = values[i] as number;
    const sign = ((bits[0] as number) >>> 16) & 0x8000;
    const rest = (bits[0] as number) & 0x7fff_ffff;
    out[i] = sign | halfOf(rest, magnitude, bits);
  }
  return out;
}

/** `rest` is a float32's bits without the sign; the other two view one scratch word. */
function halfOf(rest: number, value: Float32Array, bits: Int32Array): number {
  if (rest > 0x7f80_0000) return 0x7e00 | ((rest >> 13) & 0x3ff);
  if (rest >= 0x4780_0000) return 0x7c00;
  if (rest < 0x3880_0000) {
    // A subnormal: adding 0.5 moves the rounding to the bit that counts 2^-24.
    bits[0] = rest;
    value[0] = (value[0] as number) + 0.5;
    return (bits[0] as number) - 0x3f00_0000;
  }
  // Ties to even: the last bit kept is added to just under a half. A carry goes into the exponent, as it should.
  return (rest - 0x3800_0000 + 0xfff + ((rest >> 13) & 1)) >> 13;
}
