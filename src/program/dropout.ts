/*
 * Which values dropout drops. The mask is an exact integer function of (seed, layer, index), so that every
 * backend drops the same values whatever its threads, tiles and layouts are, and a mask never has to be stored.
 *
 *   x = index + base,  base = seed · 0x9E3779B1 + layer · 0x85EBCA77   (mod 2^32)
 *   dropped if the upper 24 bits of lowbias32(x), as a fraction of 2^24, are below p
 *   y = dropped ? x · 0 : x · float32(1 / (1 − p))
 *
 * A dropped value is multiplied by 0, as PyTorch does, so NaN and infinities come out as NaN.
 */

/**
 * Mixes 32 bits: equal inputs give equal outputs, and near inputs unrelated ones.
 * Source: Chris Wellons, "Prospecting for Hash Functions", 2018 (`lowbias32`).
 */
export function lowbias32(value: number): number {
  let x = value;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

/**
 * What is added to every index of a layer's values in one run: an integer from 0 to 2^32 − 1.
 * @param seed the run's seed, an integer from 0 to 2^32 − 1
 * @param layer index of the dropout layer in `program.layers`
 */
export function dropoutBase(seed: number, layer: number): number {
  return (Math.imul(seed, 0x9e3779b1) + Math.imul(layer, 0x85ebca77)) >>> 0;
}

/**
 * The draw for one value, from 0 to 2^24 − 1. It is dropped if this is below `dropoutThreshold(p)`.
 * @param seed as for `dropoutBase`
 * @param layer as for `dropoutBase`
 * @param index row-major index of the value in the layer's output, the batch included
 */
export function dropoutHash(seed: number, layer: number, index: number): number {
  return lowbias32((index + dropoutBase(seed, layer)) >>> 0) >>> 8;
}

/** The number of the 2^24 draws that drop a value: draw / 2^24 < p, in integers. From 0 to 2^24. */
export function dropoutThreshold(p: number): number {
  return Math.ceil(p * 2 ** 24);
}

/** What a kept value is multiplied by, as float32, so that the mean stays. With p = 1 nothing is kept: 0. */
export function dropoutScale(p: number): number {
  return p === 1 ? 0 : Math.fround(1 / (1 - p));
}
