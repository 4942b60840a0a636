/** Bytes of one vector of four float32. */
export const V: usize = 16;

/** Bytes of `count` float32. */
// @ts-ignore: decorator
@inline
export function floatBytes(count: i32): usize {
  return (<usize>count) << 2;
}

/** Bytes of `count` values of 16 bits. */
// @ts-ignore: decorator
@inline
export function halfBytes(count: i32): usize {
  return (<usize>count) << 1;
}

/**
 * a · b + c in each of four lanes, the inner step of every product. The relaxed form is one fused instruction where the
 * machine has one, and may round once or twice; only the plain build gives the same bits on every machine.
 */
// @ts-ignore: decorator
@inline
export function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}

/** c - a · b, as `madd`. */
// @ts-ignore: decorator
@inline
export function nmadd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_nmadd(a, b, c);
  return f32x4.sub(c, f32x4.mul(a, b));
}

/** max(v, 0) in each lane. `pmax` returns its first operand when that is NaN, so NaN propagates as in PyTorch. */
// @ts-ignore: decorator
@inline
export function relu4(v: v128): v128 {
  return f32x4.pmax(v, f32x4.splat(0));
}

/** The sum of the four lanes, pairwise. */
// @ts-ignore: decorator
@inline
export function sum4(v: v128): f32 {
  const pairs = f32x4.add(v, v128.shuffle<f32>(v, v, 2, 3, 0, 1));
  return f32x4.extract_lane(pairs, 0) + f32x4.extract_lane(pairs, 1);
}

/** `count` rounded up to a multiple of `step`. */
// @ts-ignore: decorator
@inline
export function roundUp(count: i32, step: i32): i32 {
  return ((count + step - 1) / step) * step;
}

/** All ones in the first `count` lanes. */
export function laneMask(count: i32): v128 {
  return i32x4.lt_s(i32x4(0, 1, 2, 3), i32x4.splat(count));
}
