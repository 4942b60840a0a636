/*
 * Direct 3×3 convolution of the values that Winograd's method left as NaN:
 *   x (N, H, W, CP), packed weights [3][3][CP][OCP] → y (N, H, W, OCP), or pooled (N, ⌊H/2⌋, ⌊W/2⌋, OCP)
 *   y[n, i, j, o] = Σ x[n, i + kh − 1, j + kw − 1, c] · w[kh, kw, c, o], · scale + bias, ReLU, 2×2 max-pool, as p says
 * In Winograd's method one input that is not finite spreads to its whole tile; in PyTorch it only reaches the outputs
 * that read it. shaders/winograd.wgsl makes a tile NaN if any of its results is not finite; this kernel rewrites the
 * NaN values and leaves the rest. If all values are finite, it only reads y.
 */
override F16: bool = false;

struct Params {
  /* Vectors of y. */
  count: u32,
  h: u32,
  w: u32,
  outHeight: u32,
  outWidth: u32,
  inChannels: u32,
  cp: u32,
  outChannels: u32,
  /* OCP / 4. */
  ocp4: u32,
  scale: u32,
  relu: u32,
  pool: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weights: array<u32>;
@group(0) @binding(2) var<storage, read> bias: array<vec4f>;
@group(0) @binding(3) var<storage, read> scale: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(5) var<uniform> p: Params;

/* In integers, since compilers may assume that no value is NaN. */
fn isNaN(u: vec4f) -> vec4<bool> {
  return (bitcast<vec4u>(u) & vec4u(0x7fffffffu)) > vec4u(0x7f800000u);
}

fn larger(s: vec4f, t: vec4f) -> vec4f {
  return select(select(t, s, s > t), s + t, isNaN(s) | isNaN(t));
}

/* Four output channels of one tap and input channel. */
fn weight(row: u32, vector: u32) -> vec4f {
  let at = (row * p.ocp4 + vector) * 4u;
  if (F16) {
    return vec4f(unpack2x16float(weights[at / 2u]), unpack2x16float(weights[at / 2u + 1u]));
  }
  return bitcast<vec4f>(vec4u(weights[at], weights[at + 1u], weights[at + 2u], weights[at + 3u]));
}

fn convolve(n: u32, row: u32, column: u32, vector: u32) -> vec4f {
  var sum = vec4f();
  for (var tap = 0u; tap < 9u; tap++) {
    let i = row + tap / 3u - 1u;
    let j = column + tap % 3u - 1u;
    if (i >= p.h || j >= p.w) {
      continue;
    }
    let base = ((n * p.h + i) * p.w + j) * p.cp;
    for (var c = 0u; c < p.inChannels; c++) {
      sum += x[base + c] * weight(tap * p.cp + c, vector);
    }
  }
  if (p.scale > 0u) {
    sum *= scale[vector];
  }
  sum += bias[vector];
  if (p.relu > 0u) {
    sum = select(sum, vec4f(), (bitcast<vec4u>(sum) - vec4u(0x80000000u)) <= vec4u(0x7f800000u));
  }
  return sum;
}

@compute @workgroup_size(64)
fn repair(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= p.count) {
    return;
  }
  if (!any(isNaN(y[i]))) {
    return;
  }
  let vector = i % p.ocp4;
  let column = i / p.ocp4 % p.outWidth;
  let row = i / p.ocp4 / p.outWidth % p.outHeight;
  let n = i / p.ocp4 / p.outWidth / p.outHeight;
  var sum: vec4f;
  if (p.pool > 0u) {
    let above = larger(convolve(n, 2u * row, 2u * column, vector), convolve(n, 2u * row, 2u * column + 1u, vector));
    let below = larger(
      convolve(n, 2u * row + 1u, 2u * column, vector),
      convolve(n, 2u * row + 1u, 2u * column + 1u, vector),
    );
    sum = larger(above, below);
  } else {
    sum = convolve(n, row, column, vector);
  }
  let channel = vec4u(4u * vector) + vec4u(0u, 1u, 2u, 3u);
  y[i] = select(vec4f(), sum, channel < vec4u(p.outChannels));
}
