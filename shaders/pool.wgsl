/*
 * Pools of an activation x (N, H, W, CP), float32.
 *   maxPool2d: → (N, ⌊H/2⌋, ⌊W/2⌋, CP), the maximum of each 2×2 window, stride 2; NaN propagates
 *   adaptiveAvgPool2d: → rows (N, C·O·O) in PyTorch's order, the mean of each cell of an O×O grid. Cell i has the rows
 *     from ⌊i·H/O⌋ up to ⌈(i+1)·H/O⌉, and the columns likewise, as in torch.nn.AdaptiveAvgPool2d
 */
struct Params {
  /* maxPool2d: vectors of y. adaptiveAvgPool2d: values of y. */
  count: u32,
  cp: u32,
  h: u32,
  w: u32,
  /* Rows and columns of the output. */
  oh: u32,
  ow: u32,
  /* adaptiveAvgPool2d: C·O·O, and the values of a row of y as stored. */
  features: u32,
  pitch: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(0) var<storage, read> values: array<f32>;
@group(0) @binding(1) var<storage, read_write> means: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

/* In integers, since compilers may assume that no value is NaN. */
fn isNaN(v: vec4f) -> vec4<bool> {
  return (bitcast<vec4u>(v) & vec4u(0x7fffffffu)) > vec4u(0x7f800000u);
}

fn larger(u: vec4f, v: vec4f) -> vec4f {
  return select(select(v, u, u > v), u + v, isNaN(u) | isNaN(v));
}

/* A thread makes a vector. */
@compute @workgroup_size(64)
fn maxPool2d(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= p.count) {
    return;
  }
  let c4 = p.cp / 4u;
  let pixel = i / c4;
  let row = pixel / p.ow;
  let base = ((row / p.oh * p.h + row % p.oh * 2u) * p.w + pixel % p.ow * 2u) * c4 + i % c4;
  let below = base + p.w * c4;
  y[i] = larger(larger(x[base], x[base + c4]), larger(x[below], x[below + c4]));
}

/* A thread makes a value. It sums each row of the cell, then the sums, which keeps rounding errors small. */
@compute @workgroup_size(64)
fn adaptiveAvgPool2d(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= p.count) {
    return;
  }
  let within = i % p.pitch;
  var mean = 0f;
  if (within < p.features) {
    let o = p.oh;
    let c = within / (o * o);
    let row = within / o % o;
    let column = within % o;
    let y0 = row * p.h / o;
    let y1 = ((row + 1u) * p.h + o - 1u) / o;
    let x0 = column * p.w / o;
    let x1 = ((column + 1u) * p.w + o - 1u) / o;
    var sum = 0f;
    for (var iy = y0; iy < y1; iy++) {
      var line = 0f;
      for (var ix = x0; ix < x1; ix++) {
        line += values[((i / p.pitch * p.h + iy) * p.w + ix) * p.cp + c];
      }
      sum += line;
    }
    mean = sum / f32((y1 - y0) * (x1 - x0));
  }
  means[i] = mean;
}
