/*
 * 3×3 convolution by Winograd's F(TILE×TILE, 3×3):
 *   x (N, H, W, CP) → y (N, H, W, OCP), or pooled (N, ⌊H/2⌋, ⌊W/2⌋, OCP)
 *   Y = Aᵀ [ Σ_c (G g Gᵀ) ⊙ (Bᵀ d B) ] A
 * for tiles d of 6×6 or 4×4 pixels that overlap by two, with 4 or 2.25 times fewer multiplications than direct
 * convolution. The sum over channels is a matrix product for each of the 36 or 16 points (gemm.wgsl).
 * Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015.
 *
 * F(4×4) interpolates at 0, ±5/8, ±8/5, ∞ and not at the usual 0, ±1, ±2, ∞. Of the points measured, these have the
 * least error: 1.5e-6 of a 512-channel layer's norm, against 3.2e-6. float32 does not represent 8/5 exactly, which
 * shifts the mean of an output by 5e-7: far below the 1e-3 that is promised of a GPU. The WebAssembly kernels promise
 * 1e-4, and take ±3/4, ±3/2, which are exact and have an error of 1.7e-6 (assembly/winograd4.ts).
 *
 * A thread takes two channels of a tile: 36 pairs are 72 registers; four channels would leave too few. Neighboring
 * threads take neighboring channels, so that a warp reads and writes runs of 256 bytes.
 */
override TILE: u32 = 4;
override F16: bool = false;

struct Params {
  /* Threads, pairs of channels, tiles of this turn, the first of them, tiles along x and y, the image's size. */
  count: u32,
  pairs: u32,
  tiles: u32,
  first: u32,
  across: u32,
  down: u32,
  h: u32,
  w: u32,
  /* output: what the result goes through. */
  scale: u32,
  relu: u32,
  pool: u32,
  /* Output channels without the padding, which stays 0 whatever x has, NaN included. */
  channels: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec2f>;
@group(0) @binding(1) var<storage, read_write> v: array<vec2f>;
@group(0) @binding(2) var<uniform> p: Params;

/* A row or column of a tile; TILE 2 does not use the last two. */
struct Line {
  a: vec2f,
  b: vec2f,
  c: vec2f,
  d: vec2f,
  e: vec2f,
  f: vec2f,
}

/* The points P = 5/8 and Q = 8/5, of which P · Q = 1. */
const P = 0.625f;
const Q = 1.6f;

fn transformInput(t: Line) -> Line {
  if (TILE == 2u) {
    return Line(t.a - t.c, t.b + t.c, t.c - t.b, t.d - t.b, vec2f(), vec2f());
  }
  let even = t.e - Q * Q * t.c;
  let odd = P * (t.d - Q * Q * t.b);
  let even2 = t.e - P * P * t.c;
  let odd2 = Q * (t.d - P * P * t.b);
  const s = P * P + Q * Q;
  return Line(t.a - s * t.c + t.e, even + odd, even - odd, even2 + odd2, even2 - odd2, t.b - s * t.d + t.f);
}

fn transformWeights(a: vec2f, b: vec2f, c: vec2f) -> Line {
  if (TILE == 2u) {
    return Line(a, 0.5f * (a + b + c), 0.5f * (a - b + c), c, vec2f(), vec2f());
  }
  const s = 1f / (2f * P * P * (P * P - Q * Q));
  const t = 1f / (2f * Q * Q * (Q * Q - P * P));
  let even = s * (a + P * P * c);
  let odd = s * P * b;
  let even2 = t * (a + Q * Q * c);
  let odd2 = t * Q * b;
  return Line(a, even + odd, even - odd, even2 + odd2, even2 - odd2, c);
}

/* Only a … d are set; with TILE 2 only a and b. */
fn transformOutput(t: Line) -> Line {
  if (TILE == 2u) {
    return Line(t.a + t.b + t.c, t.b - t.c + t.d, vec2f(), vec2f(), vec2f(), vec2f());
  }
  let even = t.b + t.c;
  let odd = t.b - t.c;
  let even2 = t.d + t.e;
  let odd2 = t.d - t.e;
  return Line(
    t.a + even + even2,
    P * odd + Q * odd2,
    P * P * even + Q * Q * even2,
    P * P * P * odd + Q * Q * Q * odd2 + t.f,
    vec2f(),
    vec2f(),
  );
}

/* Pixel (row, column) of image n; zero outside. Numbers below 0 wrap around, and exceed every size. */
fn pixel(n: u32, row: u32, column: u32, c: u32) -> vec2f {
  if (row < p.h && column < p.w) {
    return x[((n * p.h + row) * p.w + column) * p.pairs + c];
  }
  return vec2f();
}

fn inputColumn(n: u32, row: u32, column: u32, c: u32) -> Line {
  var e = vec2f();
  var f = vec2f();
  if (TILE == 4u) {
    e = pixel(n, row + 4u, column, c);
    f = pixel(n, row + 5u, column, c);
  }
  return transformInput(Line(
    pixel(n, row, column, c),
    pixel(n, row + 1u, column, c),
    pixel(n, row + 2u, column, c),
    pixel(n, row + 3u, column, c),
    e,
    f,
  ));
}

/* Points in the order (row, column) of the transformed tile; `stride` from one to the next. */
fn storeLine(t: Line, to: u32, stride: u32) {
  v[to] = t.a;
  v[to + stride] = t.b;
  v[to + 2u * stride] = t.c;
  v[to + 3u * stride] = t.d;
  if (TILE == 4u) {
    v[to + 4u * stride] = t.e;
    v[to + 5u * stride] = t.f;
  }
}

fn storeTile(c0: Line, c1: Line, c2: Line, c3: Line, c4: Line, c5: Line, to: u32, stride: u32) {
  let line = (TILE + 2u) * stride;
  storeLine(transformInput(Line(c0.a, c1.a, c2.a, c3.a, c4.a, c5.a)), to, stride);
  storeLine(transformInput(Line(c0.b, c1.b, c2.b, c3.b, c4.b, c5.b)), to + line, stride);
  storeLine(transformInput(Line(c0.c, c1.c, c2.c, c3.c, c4.c, c5.c)), to + 2u * line, stride);
  storeLine(transformInput(Line(c0.d, c1.d, c2.d, c3.d, c4.d, c5.d)), to + 3u * line, stride);
  if (TILE == 4u) {
    storeLine(transformInput(Line(c0.e, c1.e, c2.e, c3.e, c4.e, c5.e)), to + 4u * line, stride);
    storeLine(transformInput(Line(c0.f, c1.f, c2.f, c3.f, c4.f, c5.f)), to + 5u * line, stride);
  }
}

/* x (N, H, W, CP) → v [points][tiles][CP] */
@compute @workgroup_size(64)
fn input(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= p.count) {
    return;
  }
  let c = i % p.pairs;
  let tile = p.first + i / p.pairs;
  let column = tile % p.across * TILE - 1u;
  let row = tile / p.across % p.down * TILE - 1u;
  let n = tile / p.across / p.down;
  var c4 = Line();
  var c5 = Line();
  if (TILE == 4u) {
    c4 = inputColumn(n, row, column + 4u, c);
    c5 = inputColumn(n, row, column + 5u, c);
  }
  storeTile(
    inputColumn(n, row, column, c),
    inputColumn(n, row, column + 1u, c),
    inputColumn(n, row, column + 2u, c),
    inputColumn(n, row, column + 3u, c),
    c4,
    c5,
    i,
    p.count,
  );
}

@group(0) @binding(0) var<storage, read> packed: array<u32>;

/* Tap `tap` of pair i. */
fn weight(tap: u32, i: u32) -> vec2f {
  let at = tap * p.count + i;
  if (F16) {
    return unpack2x16float(packed[at]);
  }
  return vec2f(bitcast<f32>(packed[2u * at]), bitcast<f32>(packed[2u * at + 1u]));
}

fn storeWeights(a: vec2f, b: vec2f, c: vec2f, to: u32) {
  storeLine(transformWeights(a, b, c), to, p.count);
}

/* packed [3][3][CP][OCP] → v [points][CP][OCP]; p.count is CP · OCP / 2. */
@compute @workgroup_size(64)
fn weights(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= p.count) {
    return;
  }
  let c0 = transformWeights(weight(0u, i), weight(3u, i), weight(6u, i));
  let c1 = transformWeights(weight(1u, i), weight(4u, i), weight(7u, i));
  let c2 = transformWeights(weight(2u, i), weight(5u, i), weight(8u, i));
  let line = (TILE + 2u) * p.count;
  storeWeights(c0.a, c1.a, c2.a, i);
  storeWeights(c0.b, c1.b, c2.b, i + line);
  storeWeights(c0.c, c1.c, c2.c, i + 2u * line);
  storeWeights(c0.d, c1.d, c2.d, i + 3u * line);
  if (TILE == 4u) {
    storeWeights(c0.e, c1.e, c2.e, i + 4u * line);
    storeWeights(c0.f, c1.f, c2.f, i + 5u * line);
  }
}

@group(0) @binding(1) var<storage, read> bias: array<vec2f>;
@group(0) @binding(2) var<storage, read> scale: array<vec2f>;
@group(0) @binding(3) var<storage, read_write> y: array<vec2f>;
@group(0) @binding(4) var<uniform> o: Params;

fn productColumn(base: u32, stride: u32) -> Line {
  let line = (TILE + 2u) * stride;
  var e = vec2f();
  var f = vec2f();
  if (TILE == 4u) {
    e = x[base + 4u * line];
    f = x[base + 5u * line];
  }
  return transformOutput(Line(x[base], x[base + line], x[base + 2u * line], x[base + 3u * line], e, f));
}

/* In integers, since compilers may assume that no value is NaN. */
fn isNaN(u: vec2f) -> vec2<bool> {
  return (bitcast<vec2u>(u) & vec2u(0x7fffffffu)) > vec2u(0x7f800000u);
}

fn larger(s: vec2f, t: vec2f) -> vec2f {
  return select(select(t, s, s > t), s + t, isNaN(s) | isNaN(t));
}

/* A result of the tile is not finite: all of it becomes NaN, which shaders/conv2d-repair.wgsl repairs. */
var<private> spoiled: bool;
/* As a variable, since a constant may not be NaN. */
var<private> nan: u32 = 0x7fc00000u;

fn notFinite(t: Line) -> bool {
  let infinity = vec2u(0x7f800000u);
  let a = (bitcast<vec2u>(t.a) & infinity) == infinity;
  let b = (bitcast<vec2u>(t.b) & infinity) == infinity;
  let c = (bitcast<vec2u>(t.c) & infinity) == infinity;
  let d = (bitcast<vec2u>(t.d) & infinity) == infinity;
  return any(a | b | c | d);
}

fn finish(u: vec2f, c: u32) -> vec2f {
  var r = u;
  if (spoiled) {
    r = vec2f(bitcast<f32>(nan));
  }
  if (o.scale > 0u) {
    r *= scale[c];
  }
  r += bias[c];
  if (o.relu > 0u) {
    r = select(r, vec2f(), (bitcast<vec2u>(r) - vec2u(0x80000000u)) <= vec2u(0x7f800000u));
  }
  return select(vec2f(), r, vec2u(2u * c, 2u * c + 1u) < vec2u(o.channels));
}

fn put(n: u32, row: u32, column: u32, c: u32, u: vec2f) {
  if (row < o.h && column < o.w) {
    y[((n * o.h + row) * o.w + column) * o.pairs + c] = finish(u, c);
  }
}

fn putPooled(n: u32, row: u32, column: u32, c: u32, s: Line, t: Line) {
  let oh = o.h / 2u;
  let ow = o.w / 2u;
  if (row < oh && column < ow) {
    let at = ((n * oh + row) * ow + column) * o.pairs + c;
    y[at] = larger(larger(finish(s.a, c), finish(s.b, c)), larger(finish(t.a, c), finish(t.b, c)));
    if (TILE == 4u && column + 1u < ow) {
      y[at + o.pairs] = larger(larger(finish(s.c, c), finish(s.d, c)), larger(finish(t.c, c), finish(t.d, c)));
    }
  }
}

fn putRow(n: u32, row: u32, column: u32, c: u32, t: Line) {
  put(n, row, column, c, t.a);
  put(n, row, column + 1u, c, t.b);
  if (TILE == 4u) {
    put(n, row, column + 2u, c, t.c);
    put(n, row, column + 3u, c, t.d);
  }
}

/* x [points][tiles][OCP], the products → y (N, H, W, OCP), or with o.pool (N, ⌊H/2⌋, ⌊W/2⌋, OCP) */
@compute @workgroup_size(64)
fn output(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= o.count) {
    return;
  }
  let c = i % o.pairs;
  let tile = o.first + i / o.pairs;
  let column = tile % o.across * TILE;
  let row = tile / o.across % o.down * TILE;
  let n = tile / o.across / o.down;
  let s = o.count;
  let c0 = productColumn(i, s);
  let c1 = productColumn(i + s, s);
  let c2 = productColumn(i + 2u * s, s);
  let c3 = productColumn(i + 3u * s, s);
  var c4 = Line();
  var c5 = Line();
  if (TILE == 4u) {
    c4 = productColumn(i + 4u * s, s);
    c5 = productColumn(i + 5u * s, s);
  }
  let r0 = transformOutput(Line(c0.a, c1.a, c2.a, c3.a, c4.a, c5.a));
  let r1 = transformOutput(Line(c0.b, c1.b, c2.b, c3.b, c4.b, c5.b));
  var r2 = Line();
  var r3 = Line();
  if (TILE == 4u) {
    r2 = transformOutput(Line(c0.c, c1.c, c2.c, c3.c, c4.c, c5.c));
    r3 = transformOutput(Line(c0.d, c1.d, c2.d, c3.d, c4.d, c5.d));
  }
  spoiled = notFinite(r0) || notFinite(r1) || notFinite(r2) || notFinite(r3);
  if (o.pool > 0u) {
    putPooled(n, row / 2u, column / 2u, c, r0, r1);
  } else {
    putRow(n, row, column, c, r0);
    putRow(n, row + 1u, column, c, r1);
  }
  if (TILE == 4u) {
    if (o.pool > 0u) {
      putPooled(n, row / 2u + 1u, column / 2u, c, r2, r3);
    } else {
      putRow(n, row + 2u, column, c, r2);
      putRow(n, row + 3u, column, c, r3);
    }
  }
}
