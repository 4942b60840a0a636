/*
 * Winograd's transforms of a tile, whose columns and then rows go through the transform of a line: Bᵀ d B on the way in,
 * Aᵀ m A on the way out (winograd.ts has the formula), a vector of four channels at a time.
 */
import { V } from './simd';
import { SHARED4, constants4, inputLine4, outputLine4, shortInput4, shortOutput4 } from './winograd4';
import { SHARED6, constants6, inputLine6, outputLine6, shortInput6, shortOutput6 } from './winograd6';

/** The points of a tile: a product for each. */
// @ts-ignore: decorator
@inline
export function pointsOf(size: i32): i32 {
  return (size + 2) * (size + 2);
}

/** The points along a side that F(size, 3) shares with F(2, 3), bit by bit. */
// @ts-ignore: decorator
@inline
export function sharedPoints(size: i32): i32 {
  return size == 4 ? SHARED4 : SHARED6;
}

/** Writes the constants of the transforms after the (size + 2)² vectors. */
export function writeConstants(size: i32, vectors: usize): void {
  if (size == 4) constants4(vectors);
  else constants6(vectors);
}

/** The transform of a line: bit 0 for F(2, 3) in place of F(m, 3), bit 1 for Aᵀ in place of Bᵀ, bit 2 for m = 6. */
const SHORT: i32 = 1;
const OUTPUT: i32 = 2;
const SIX: i32 = 4;

/** One pass of a transform, through the columns or the rows of a tile. */
@unmanaged
export class LinePass {
  transform: i32;
  /** The lines to transform, bit by bit. */
  lines: i32;
  /** Bytes from one line to the next, and from one value of a line to the next. */
  next: usize;
  step: usize;
  /** The same for the results. */
  outNext: usize;
  outStep: usize;
}

// @ts-ignore: decorator
@inline
function setPass(pass: LinePass, transform: i32, lines: i32, next: usize, step: usize): void {
  pass.transform = transform;
  pass.lines = lines;
  pass.next = next;
  pass.step = step;
}

// @ts-ignore: decorator
@inline
function setResults(pass: LinePass, outNext: usize, outStep: usize): void {
  pass.outNext = outNext;
  pass.outStep = outStep;
}

/** The lines 0 to `count` − 1. */
// @ts-ignore: decorator
@inline
function linesTo(count: i32): i32 {
  return (1 << count) - 1;
}

/** The two passes of Bᵀ d B for a tile of `rows` × `columns` outputs: pixels to vectors, and vectors to points. */
export function setInputPass(
  first: LinePass,
  second: LinePass,
  size: i32,
  rows: i32,
  columns: i32,
  pixel: usize,
  row: usize,
  point: usize,
): void {
  const side = size + 2;
  const big = size == 6 ? SIX : 0;
  const low = rows < size;
  setPass(first, big | (low ? SHORT : 0), linesTo(columns + 2), pixel, row);
  setResults(first, V, <usize>side * V);
  setPass(second, big | (columns < size ? SHORT : 0), low ? sharedPoints(size) : linesTo(side), <usize>side * V, V);
  setResults(second, <usize>side * point, point);
}

/** The two passes of Aᵀ m A: points to vectors, and vectors to a tile of size × size outputs. */
export function setOutputPass(
  first: LinePass,
  second: LinePass,
  size: i32,
  rows: i32,
  columns: i32,
  point: usize,
): void {
  const side = size + 2;
  const output = OUTPUT | (size == 6 ? SIX : 0);
  const slim = columns < size;
  const lines = slim ? sharedPoints(size) : linesTo(side);
  setPass(first, output | (rows < size ? SHORT : 0), lines, point, <usize>side * point);
  setResults(first, V, <usize>side * V);
  setPass(second, output | (slim ? SHORT : 0), linesTo(rows), <usize>side * V, V);
  setResults(second, <usize>size * V, V);
}

/** Applies a pass to four channels. */
export function transformLines(pass: LinePass, from: usize, out: usize, vectors: usize): void {
  const transform = pass.transform;
  const next = pass.next;
  const step = pass.step;
  const outNext = pass.outNext;
  const outStep = pass.outStep;
  for (let lines = pass.lines; lines != 0; lines >>= 1) {
    if (lines & 1) transformLine(transform, from, step, out, outStep, vectors);
    from += next;
    out += outNext;
  }
}

// @ts-ignore: decorator
@inline
function transformLine(transform: i32, from: usize, step: usize, out: usize, outStep: usize, vectors: usize): void {
  switch (transform) {
    case 0:
      return inputLine4(from, step, out, outStep, vectors);
    case SHORT:
      return shortInput4(from, step, out, outStep, vectors);
    case OUTPUT:
      return outputLine4(from, step, out, outStep, vectors);
    case OUTPUT | SHORT:
      return shortOutput4(from, step, out, outStep, vectors);
    case SIX:
      return inputLine6(from, step, out, outStep, vectors);
    case SIX | SHORT:
      return shortInput6(from, step, out, outStep, vectors);
    case SIX | OUTPUT:
      return outputLine6(from, step, out, outStep, vectors);
    default:
      return shortOutput6(from, step, out, outStep);
  }
}
