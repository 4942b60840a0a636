struct Params {
  count: u32,
  /* maxPool2d: CP / 4. adaptiveAvgPool2d: CP. */
  cp: u32,
  h: u32,
  w: u32,
  /* maxPool2d: rows and columns of y. adaptiveAvgPool2d: the grid's size, and the values of a row of y. */
  oh: u32,
  ow: u32,
  /* adaptiveAvgPool2d: a row of y as stored. */
  pitch: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(0) var<storage, read> values: array<f32>;
@group(0) @binding(1) var<storage, read_write> means: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

/* In integers, as compilers may take for granted that no value is NaN. */
fn isNaN(v: vec4f) -> vec4<bool> {
  return (bitcast<vec4u>(v) & vec4u(0x7fffffffu)) > vec4u(0x7f800000u);
}

fn larger(u: vec4f, v: vec4f) -> vec4f {
  return select(select(v, u, u > v), u + v, isNaN(u) | isNaN(v));
}

/* (N, H, W, CP) → (N, ⌊H/2⌋, ⌊W/2⌋, CP): the max of each 2×2 window; NaN in it makes NaN. One thread a vector. */
@compute @workgroup_size(64)
fn maxPool2d(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= p.count) {
    return;
  }
  let pixel = i / p.cp;
  let row = pixel / p.ow;
  let base = ((row / p.oh * p.h + row % p.oh * 2u) * p.w + pixel % p.ow * 2u) * p.cp + i % p.cp;
  let below = base + p.w * p.cp;
  y[i] = larger(larger(x[base], x[base + p.cp]), larger(x[below], x[below + p.cp]));
}

/*
 * (N, H, W, CP) → rows (N, C·O·O) in PyTorch's order. Cell i averages the rows from ⌊i·H/O⌋ up to ⌈(i+1)·H/O⌉,
 * and the columns alike. One thread a value; rows are summed before they are added, which keeps rounding small.
 */
@compute @workgroup_size(64)
fn adaptiveAvgPool2d(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= p.count) {
    return;
  }
  let within = i % p.pitch;
  var mean = 0f;
  if (within < p.ow) {
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
