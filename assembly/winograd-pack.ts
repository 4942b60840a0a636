/*
 * The weights of Winograd's method, transformed once when they are loaded; winograd.ts has the formula.
 */
import { panelsOf } from './gemm';
import { V, floatBytes } from './simd';
import { NR } from './tile';
import { pointsOf } from './winograd-lines';
import { weight4 } from './winograd4';
import { weight6 } from './winograd6';

/** Bytes of a point that are packed at a time: points lie so far apart that they compete for a few sets of the caches. */
const RUN: usize = 256;

/**
 * G g Gᵀ of all weights: from conv2d's panels (⌈OC/8⌉, 3, 3, CS, 8) to the panels of the products
 * ((m + 2)², ⌈OC/8⌉, CS, 8). In float64, rounded once. `scratch` has 20 KiB.
 */
export function packWinograd(
  size: i32,
  direct: usize,
  packed: usize,
  outChannels: i32,
  inStride: i32,
  scratch: usize,
): void {
  const panels = <usize>panelsOf(outChannels);
  const side = size + 2;
  const points = <usize>pointsOf(size);
  const tap = floatBytes(inStride * NR);
  // The weights of two pairs of channels, three vectors per column; then G g, three per row; then a line of G g Gᵀ.
  const work = scratch + points * RUN;
  const line = work + <usize>(9 + 3 * side) * V;
  for (let at: usize = 0; at < panels * tap; at += RUN) {
    const from = direct + (at / tap) * 9 * tap + (at % tap);
    for (let pair: usize = 0; pair < RUN; pair += 8) {
      for (let k: usize = 0; k < 9; k++) v128.store(work + ((k % 3) * 3 + k / 3) * V, load2(from + pair + k * tap));
      let v = work;
      let out = scratch + pair;
      for (let l = 0; l < 3 + side; l++) {
        const first = l < 3;
        const to = first ? work + <usize>(9 + l) * V : line;
        const step: usize = first ? 3 * V : V;
        weightLine(size, v128.load(v), v128.load(v, V), v128.load(v, 2 * V), to, step);
        v += 3 * V;
        if (first) continue;
        for (let p = line, end = line + <usize>side * V; p < end; p += V) {
          v128.store64_lane(out, f32x4.demote_f64x2_zero(v128.load(p)), 0);
          out += RUN;
        }
      }
    }
    for (let p: usize = 0; p < points; p++) memory.copy(packed + p * panels * tap + at, scratch + p * RUN, RUN);
  }
}

// @ts-ignore: decorator
@inline
function weightLine(size: i32, g0: v128, g1: v128, g2: v128, out: usize, step: usize): void {
  if (size == 4) weight4(g0, g1, g2, out, step);
  else weight6(g0, g1, g2, out, step);
}

/** Two float32 as float64. */
// @ts-ignore: decorator
@inline
function load2(p: usize): v128 {
  return f64x2.promote_low_f32x4(v128.load64_zero(p));
}
