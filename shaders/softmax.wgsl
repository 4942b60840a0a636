/*
 * Softmax of rows x (N, F) → y (N, F), float32: y[n, f] = exp(x[n, f] − max x[n]) / Σ_g exp(x[n, g] − max x[n]). A
 * workgroup makes a row. A row with NaN or +∞, or with −∞ alone, becomes NaN; it is detected and written in integers,
 * since compilers may assume that there are no such values.
 */
struct Params {
  n: u32,
  features: u32,
  /* Values of a row as stored. */
  pitch: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<uniform> p: Params;

const SIZE = 256u;
const INFINITY = 0x7f800000u;
var<workgroup> part: array<f32, SIZE>;
var<workgroup> bad: atomic<u32>;

@compute @workgroup_size(SIZE)
fn softmax(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) t: u32,
) {
  let row = id.y * groups.x + id.x;
  if (row >= p.n) {
    return;
  }
  let base = row * p.pitch;
  /* The lowest float32. */
  var most = -0x1.fffffep+127f;
  for (var f = t; f < p.features; f += SIZE) {
    let v = x[base + f];
    if ((bitcast<u32>(v) & 0x7fffffffu) > INFINITY || bitcast<u32>(v) == INFINITY) {
      atomicStore(&bad, 1u);
    } else {
      most = max(most, v);
    }
  }
  part[t] = most;
  workgroupBarrier();
  for (var half = SIZE / 2u; half > 0u; half /= 2u) {
    if (t < half) {
      part[t] = max(part[t], part[t + half]);
    }
    workgroupBarrier();
  }
  most = part[0];
  workgroupBarrier();
  var sum = 0f;
  for (var f = t; f < p.features; f += SIZE) {
    sum += power(x[base + f], most);
  }
  part[t] = sum;
  workgroupBarrier();
  for (var half = SIZE / 2u; half > 0u; half /= 2u) {
    if (t < half) {
      part[t] += part[t + half];
    }
    workgroupBarrier();
  }
  sum = part[0];
  let isBad = atomicLoad(&bad) == 1u || sum == 0f;
  for (var f = t; f < p.pitch; f += SIZE) {
    var bits = 0u;
    if (f < p.features) {
      bits = select(bitcast<u32>(power(x[base + f], most) / sum), 0x7fc00000u, isBad);
    }
    y[base + f] = bits;
  }
}

fn power(v: f32, most: f32) -> f32 {
  return select(exp(v - most), 0f, bitcast<u32>(v) == 0xff800000u);
}
