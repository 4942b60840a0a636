/*
 * Operations on each value of an activation, x (N, H, W, CP) → y (N, H, W, CP), float32; one thread a vector of four.
 *   relu     y = x < 0 ? 0 : x
 *   dropout  y = x · (draw(index) < threshold ? 0 : scale), where index is row-major in (N, C, H, W)
 * The hash of `draw` is lowbias32 by Chris Wellons ("Prospecting for Hash Functions", 2018).
 */
struct Params {
  count: u32,
  /* Of dropout only, from here on: CP / 4. */
  c4: u32,
  c: u32,
  hw: u32,
  base: u32,
  threshold: u32,
  scale: f32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(2) var<uniform> p: Params;

/* Compared as integers, so that NaN stays: compilers may assume that no value is NaN. */
@compute @workgroup_size(64)
fn relu(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * 64u + id.x;
  if (i < p.count) {
    let v = x[i];
    y[i] = select(v, vec4f(), (bitcast<vec4u>(v) - vec4u(0x80000000u)) <= vec4u(0x7f800000u));
  }
}

/* The same numbers as `dropoutHash` in src/program/dropout.ts. */
fn draw(index: vec4u) -> vec4u {
  var v = index + vec4u(p.base);
  v = (v ^ (v >> vec4u(16u))) * 0x7feb352du;
  v = (v ^ (v >> vec4u(15u))) * 0x846ca68bu;
  return (v ^ (v >> vec4u(16u))) >> vec4u(8u);
}

@compute @workgroup_size(64)
fn dropout(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= p.count) {
    return;
  }
  let pixel = i / p.c4;
  let c = i % p.c4 * 4u + vec4u(0u, 1u, 2u, 3u);
  let index = (pixel / p.hw * p.c + c) * p.hw + pixel % p.hw;
  y[i] = x[i] * select(vec4f(p.scale), vec4f(), draw(index) < vec4u(p.threshold));
}
