/*
 * Matrix product, and 3×3 convolution as one (implicit GEMM): Y[M][N] = A[M][K] · B[K][N], then · scale + bias, ReLU,
 * 2×2 max-pool, as p says. Float32, row-major; B is float32 or float16. Only the constants of the inner loop are
 * override constants, so that a network needs few pipelines. Sizes in p with a 4 count vectors of 4 values.
 * Sources: Chellapilla, Puri and Simard, "High Performance Convolutional Neural Networks for Document Processing",
 * 2006, for convolution as a matrix product; Goto and van de Geijn, "Anatomy of High-Performance Matrix
 * Multiplication", 2008, for the blocking.
 *
 * CONV2D  A is an activation (N, H, W, CP). Row m is an output pixel and column k is (kh, kw, c), so that a tile of
 *         A is read straight from the image; pixels outside are zero. B is [3][3][CP][OCP]. With p.pool the rows
 *         4i … 4i + 3 are the window of pooled pixel i, so that one thread has all four and writes their maximum.
 * PLAIN   A is [M][K] and B [K][N]. workgroup_id.z is the point of Winograd's method.
 * LINEAR  A is [M][K] and B [N][K], transposed as it is read. With p.kStep, workgroup_id.z is the part of K.
 *
 * A workgroup of WX × WY threads makes a tile of (WY·TM) × (WX·TN) values, TM × TN in the registers of each thread.
 * Every 4·KV steps of K it loads a strip of A and one of B into workgroup memory: with 8 × 16 threads of 8 × 8 values,
 * 128 × 8 and 8 × 64 values, 6 KiB, and 1 KiB for the positions of pixels, so that several workgroups fit into 16 or 32
 * KiB. Each thread then reads 16 vectors for 256 multiply-adds. Loads and stores are vectors, in runs of at least 32
 * bytes. No bank conflicts: eight neighbors (a quarter of a warp) read one vector of A, which is broadcast, and eight
 * consecutive vectors of B. Registers: 64 sums, 32 of B and 4 of A, about 120 in all; they are named one by one, since
 * an array with a computed index may go to memory. A layer of 3 channels needs no special kernel: k runs over (tap,
 * channel) without gaps, so that 36 of 40 steps are useful, and writing y takes longer than the rest.
 */
override WX: u32 = 8;
override WY: u32 = 16;
override TM: u32 = 8;
override TN: u32 = 8;
override KV: u32 = 2;
/* CONV2D, PLAIN (which is 1) or LINEAR. */
override KIND: u32 = 0;
override F16: bool = false;

const CONV2D = 0u;
const LINEAR = 2u;

struct Params {
  m: u32,
  n4: u32,
  k4: u32,
  kStep: u32,
  aStride: u32,
  bStride: u32,
  yStride: u32,
  bPitch: u32,
  rows: u32,
  firstColumn: u32,
  yPitch: u32,
  across: u32,
  groups: u32,
  h: u32,
  w: u32,
  c4: u32,
  scale: u32,
  bias: u32,
  relu: u32,
  pool: u32,
  /* Columns without the padding. The padding, up to a multiple of 4, stays 0 whatever A has, NaN included. */
  columns: u32,
}

@group(0) @binding(0) var<storage, read> a: array<vec4f>;
@group(0) @binding(1) var<storage, read> b: array<vec4u>;
@group(0) @binding(2) var<storage, read> bias: array<vec4f>;
@group(0) @binding(3) var<storage, read> scale: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(5) var<uniform> p: Params;

/* WY·TM × KV and 4·KV × WX·TN / 4 vectors. */
var<workgroup> tileA: array<vec4f, WY * TM * KV>;
var<workgroup> tileB: array<vec4f, KV * WX * TN>;
/* For each row of A the pixel's index, and its position: y · 2^16 + x. */
var<workgroup> pixels: array<vec2u, WY * TM>;

/* Vector i of B. */
fn load(i: u32) -> vec4f {
  if (F16) {
    let q = b[i >> 1u];
    let v = select(q.xy, q.zw, (i & 1u) == 1u);
    return vec4f(unpack2x16float(v.x), unpack2x16float(v.y));
  }
  return bitcast<vec4f>(b[i]);
}

fn mad(c: vec4f, x: vec4f, b0: vec4f, b1: vec4f, b2: vec4f, b3: vec4f) -> vec4f {
  return c + x.x * b0 + x.y * b1 + x.z * b2 + x.w * b3;
}

/* In integers, since compilers may assume that no value is NaN. */
fn isNaN(v: vec4f) -> vec4<bool> {
  return (bitcast<vec4u>(v) & vec4u(0x7fffffffu)) > vec4u(0x7f800000u);
}

fn larger(u: vec4f, v: vec4f) -> vec4f {
  return select(select(v, u, u > v), u + v, isNaN(u) | isNaN(v));
}

/* −∞ … −0 become 0; any other value stays, NaN included. */
fn rectify(v: vec4f) -> vec4f {
  return select(v, vec4f(), (bitcast<vec4u>(v) - vec4u(0x80000000u)) <= vec4u(0x7f800000u));
}

fn finish(v: vec4f, n: u32) -> vec4f {
  var r = v;
  if (p.scale > 0u) {
    r *= scale[n];
  }
  if (p.bias > 0u) {
    r += bias[n];
  }
  if (p.relu > 0u) {
    r = rectify(r);
  }
  return select(vec4f(), r, vec4u(n * 4u) + vec4u(0u, 1u, 2u, 3u) < vec4u(p.columns));
}

/* Rows m … m + 3 of one vector of columns. */
fn store(z: u32, m: u32, n: u32, v0: vec4f, v1: vec4f, v2: vec4f, v3: vec4f) {
  if (n >= p.n4 || m >= p.m) {
    return;
  }
  let column = p.firstColumn + n;
  var i = z * p.yStride + m * p.yPitch + column;
  let r0 = finish(v0, column);
  let r1 = finish(v1, column);
  let r2 = finish(v2, column);
  let r3 = finish(v3, column);
  if (p.pool > 0u) {
    y[(m / 4u) * p.yPitch + column] = larger(larger(r0, r1), larger(r2, r3));
    return;
  }
  y[i] = r0;
  if (m + 1u < p.m) {
    y[i + p.yPitch] = r1;
  }
  if (m + 2u < p.m) {
    y[i + 2u * p.yPitch] = r2;
  }
  if (m + 3u < p.m) {
    y[i + 3u * p.yPitch] = r3;
  }
}

@compute @workgroup_size(WX, WY)
fn gemm(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) count: vec3u,
  @builtin(local_invocation_id) local: vec3u,
) {
  let group = id.y * count.x + id.x;
  if (group >= p.groups) {
    return;
  }
  let z = id.z;
  let threads = WX * WY;
  let bm = WY * TM;
  let bn4 = WX * TN / 4u;
  let t = local.y * WX + local.x;
  let m0 = group / p.across * bm;
  let n0 = group % p.across * bn4;

  if (KIND == CONV2D) {
    for (var i = t; i < bm; i += threads) {
      let m = m0 + i;
      var q = vec2u(0u, 0xffff0000u);
      if (m < p.m) {
        var row: u32;
        var column: u32;
        var image: u32;
        if (p.pool > 0u) {
          let pooled = m / 4u;
          let ow = p.w / 2u;
          let oh = p.h / 2u;
          column = pooled % ow * 2u + (m & 1u);
          row = pooled / ow % oh * 2u + ((m / 2u) & 1u);
          image = pooled / ow / oh;
        } else {
          column = m % p.w;
          row = m / p.w % p.h;
          image = m / p.w / p.h;
        }
        q = vec2u((image * p.h + row) * p.w + column, (row << 16u) | column);
      }
      pixels[i] = q;
    }
    workgroupBarrier();
  }

  var c0 = vec4f();
  var c1 = vec4f();
  var c2 = vec4f();
  var c3 = vec4f();
  var c4 = vec4f();
  var c5 = vec4f();
  var c6 = vec4f();
  var c7 = vec4f();
  var d0 = vec4f();
  var d1 = vec4f();
  var d2 = vec4f();
  var d3 = vec4f();
  var d4 = vec4f();
  var d5 = vec4f();
  var d6 = vec4f();
  var d7 = vec4f();

  let begin = z * p.kStep;
  let end = select(p.k4, min(p.k4, begin + p.kStep), p.kStep > 0u);
  let kk = t % KV;
  /* conv2d: this thread's vector of channels, and tap, of the current step. */
  var channel = kk;
  var tap = 0u;
  for (var k0 = begin; k0 < end; k0 += KV) {
    if (KIND == CONV2D) {
      while (channel >= p.c4) {
        channel -= p.c4;
        tap++;
      }
      let kh = tap / 3u;
      let kw = tap % 3u;
      /* Numbers below 0 wrap around, and exceed every size. */
      let base = kh * p.w + kw - p.w - 1u;
      for (var j = 0u; j < bm * KV / threads; j++) {
        let i = t + j * threads;
        let q = pixels[i / KV];
        var v = vec4f();
        if (tap < 9u && (q.y >> 16u) + kh - 1u < p.h && (q.y & 0xffffu) + kw - 1u < p.w) {
          v = a[(q.x + base) * p.c4 + channel];
        }
        tileA[i] = v;
      }
      channel += KV;
    } else {
      for (var j = 0u; j < bm * KV / threads; j++) {
        let i = t + j * threads;
        let m = m0 + i / KV;
        var v = vec4f();
        if (m < p.m && k0 + kk < end) {
          v = a[z * p.aStride + m * p.k4 + k0 + kk];
        }
        tileA[i] = v;
      }
    }
    if (KIND == LINEAR) {
      for (var i = t; i < bn4 * KV; i += threads) {
        let n = (n0 + i / KV) * 4u;
        var r0 = vec4f();
        var r1 = vec4f();
        var r2 = vec4f();
        var r3 = vec4f();
        if (k0 + kk < end) {
          let q = z * p.bStride + n * p.bPitch + k0 + kk;
          if (n < p.rows) {
            r0 = load(q);
          }
          if (n + 1u < p.rows) {
            r1 = load(q + p.bPitch);
          }
          if (n + 2u < p.rows) {
            r2 = load(q + 2u * p.bPitch);
          }
          if (n + 3u < p.rows) {
            r3 = load(q + 3u * p.bPitch);
          }
        }
        let to = kk * 4u * bn4 + i / KV;
        tileB[to] = vec4f(r0.x, r1.x, r2.x, r3.x);
        tileB[to + bn4] = vec4f(r0.y, r1.y, r2.y, r3.y);
        tileB[to + 2u * bn4] = vec4f(r0.z, r1.z, r2.z, r3.z);
        tileB[to + 3u * bn4] = vec4f(r0.w, r1.w, r2.w, r3.w);
      }
    } else {
      for (var j = 0u; j < bn4 * 4u * KV / threads; j++) {
        let i = t + j * threads;
        let k = k0 * 4u + i / bn4;
        let n = n0 + i % bn4;
        var v = vec4f();
        if (k < end * 4u && n < p.n4) {
          v = load(z * p.bStride + k * p.n4 + n);
        }
        tileB[i] = v;
      }
    }
    workgroupBarrier();
    for (var k = 0u; k < KV; k++) {
      let q = k * 4u * bn4 + local.x;
      let r = local.y * TM * KV + k;
      let b0 = tileB[q];
      let b1 = tileB[q + bn4];
      let b2 = tileB[q + 2u * bn4];
      let b3 = tileB[q + 3u * bn4];
      let x0 = tileA[r];
      let x1 = tileA[r + KV];
      let x2 = tileA[r + 2u * KV];
      let x3 = tileA[r + 3u * KV];
      c0 = mad(c0, x0, b0, b1, b2, b3);
      c1 = mad(c1, x1, b0, b1, b2, b3);
      c2 = mad(c2, x2, b0, b1, b2, b3);
      c3 = mad(c3, x3, b0, b1, b2, b3);
      if (TN > 4u) {
        let e0 = tileB[q + WX];
        let e1 = tileB[q + WX + bn4];
        let e2 = tileB[q + WX + 2u * bn4];
        let e3 = tileB[q + WX + 3u * bn4];
        d0 = mad(d0, x0, e0, e1, e2, e3);
        d1 = mad(d1, x1, e0, e1, e2, e3);
        d2 = mad(d2, x2, e0, e1, e2, e3);
        d3 = mad(d3, x3, e0, e1, e2, e3);
        if (TM > 4u) {
          let x4 = tileA[r + 4u * KV];
          let x5 = tileA[r + 5u * KV];
          let x6 = tileA[r + 6u * KV];
          let x7 = tileA[r + 7u * KV];
          c4 = mad(c4, x4, b0, b1, b2, b3);
          c5 = mad(c5, x5, b0, b1, b2, b3);
          c6 = mad(c6, x6, b0, b1, b2, b3);
          c7 = mad(c7, x7, b0, b1, b2, b3);
          d4 = mad(d4, x4, e0, e1, e2, e3);
          d5 = mad(d5, x5, e0, e1, e2, e3);
          d6 = mad(d6, x6, e0, e1, e2, e3);
          d7 = mad(d7, x7, e0, e1, e2, e3);
        }
      }
    }
    workgroupBarrier();
  }

  let m = m0 + local.y * TM;
  let n = n0 + local.x;
  store(z, m, n, c0, c1, c2, c3);
  if (TN > 4u) {
    store(z, m, n + WX, d0, d1, d2, d3);
    if (TM > 4u) {
      store(z, m + 4u, n, c4, c5, c6, c7);
      store(z, m + 4u, n + WX, d4, d5, d6, d7);
    }
  }
}
