/*
 * Copies between PyTorch's order (N, C, H, W) and activations (N, H, W, CP), float32. CP is C rounded up to a multiple
 * of 4; the padding channels hold 0.
 */
struct Params {
  /* toNHWC: vectors of four values. toNCHW: values. */
  count: u32,
  cp: u32,
  c: u32,
  hw: u32,
  /* toNCHW: values of an image in y, at least c · hw; those past c · hw become 0. */
  pitch: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> vectors: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> values: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

/* A thread makes four channels of a pixel; neighboring threads read neighboring pixels. */
@compute @workgroup_size(64)
fn toNHWC(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= p.count) {
    return;
  }
  let c4 = p.cp / 4u;
  let pixel = i % p.hw;
  let c = i / p.hw % c4 * 4u;
  let n = i / p.hw / c4;
  let base = (n * p.c + c) * p.hw + pixel;
  var v = vec4f(x[base], 0, 0, 0);
  if (c + 1u < p.c) {
    v.y = x[base + p.hw];
  }
  if (c + 2u < p.c) {
    v.z = x[base + 2u * p.hw];
  }
  if (c + 3u < p.c) {
    v.w = x[base + 3u * p.hw];
  }
  vectors[(n * p.hw + pixel) * c4 + c / 4u] = v;
}

/* A thread makes a value. */
@compute @workgroup_size(64)
fn toNCHW(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= p.count) {
    return;
  }
  let n = i / p.pitch;
  let within = i % p.pitch;
  let c = within / p.hw;
  var v = 0f;
  if (c < p.c) {
    v = x[(n * p.hw + within % p.hw) * p.cp + c];
  }
  values[i] = v;
}
