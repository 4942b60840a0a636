enable subgroups;
/* All lanes of a subgroup have the same group of columns, which the compiler's analysis cannot see. */
diagnostic(off, subgroup_uniformity);
/*
 * linear.wgsl for devices with subgroups: x (N, KP), W [M][KP], b (M) → y (N, MP): y = x Wᵀ + b, then an optional ReLU.
 * A subgroup alone makes 4 columns of y for BATCH rows: its lanes partition K and add up their sums in registers,
 * without workgroup memory and without a barrier.
 */
override F16: bool = false;
/* Rows of x that a subgroup takes, 1 to 4. */
override BATCH: u32 = 1;

struct Params {
  n: u32,
  k4: u32,
  rows: u32,
  /* The shard's first column in y and the bias, in vectors. */
  firstColumn: u32,
  yPitch: u32,
  groups: u32,
  relu: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> weight: array<vec4u>;
@group(0) @binding(2) var<storage, read> bias: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(4) var<uniform> p: Params;

const SIZE = 64u;
/* Groups of columns of a workgroup: one for each subgroup of 32 lanes; subgroups of other sizes share them. */
const GROUPS = 2u;
var<workgroup> next: atomic<u32>;

/* Four rows of W times vector i of row n of x. */
fn dots(w: mat4x4f, n: u32, i: u32) -> vec4f {
  if (n >= p.n || i >= p.k4) {
    return vec4f();
  }
  let v = x[n * p.k4 + i];
  return vec4f(dot(w[0], v), dot(w[1], v), dot(w[2], v), dot(w[3], v));
}

fn halves(q: vec2u) -> vec4f {
  return vec4f(unpack2x16float(q.x), unpack2x16float(q.y));
}

fn finish(sum: vec4f, row: vec4u, n: u32, column: u32) {
  if (n >= p.n) {
    return;
  }
  var v = select(vec4f(), sum + bias[column], row < vec4u(p.rows));
  if (p.relu > 0u) {
    v = select(v, vec4f(), (bitcast<vec4u>(v) - vec4u(0x80000000u)) <= vec4u(0x7f800000u));
  }
  y[n * p.yPitch + column] = v;
}

@compute @workgroup_size(SIZE)
fn linear(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  /* Counted, since nothing says how a workgroup is partitioned into subgroups, or whether they are full. */
  let lanes = subgroupAdd(1u);
  let lane = subgroupExclusiveAdd(1u);
  let units = select(p.k4, (p.k4 + 1u) / 2u, F16);
  let n = id.z * BATCH;
  let first = (id.y * groups.x + id.x) * GROUPS;
  loop {
    /* A subgroup claims the next free group of columns. */
    var claimed = 0u;
    if (lane == 0u) {
      claimed = atomicAdd(&next, 1u);
    }
    claimed = subgroupBroadcastFirst(claimed);
    let group = first + claimed;
    if (claimed >= GROUPS || group >= p.groups) {
      break;
    }
    let row = vec4u(group * 4u) + vec4u(0u, 1u, 2u, 3u);
    /* Rows past the end are read as the last one, and dropped at the end. */
    let base = min(row, vec4u(p.rows - 1u)) * units;
    var s0 = vec4f();
    var s1 = vec4f();
    var s2 = vec4f();
    var s3 = vec4f();
    for (var i = lane; i < units; i += lanes) {
      let w0 = weight[base.x + i];
      let w1 = weight[base.y + i];
      let w2 = weight[base.z + i];
      let w3 = weight[base.w + i];
      if (F16) {
        let u = mat4x4f(halves(w0.xy), halves(w1.xy), halves(w2.xy), halves(w3.xy));
        let v = mat4x4f(halves(w0.zw), halves(w1.zw), halves(w2.zw), halves(w3.zw));
        s0 += dots(u, n, 2u * i) + dots(v, n, 2u * i + 1u);
        if (BATCH > 1u) {
          s1 += dots(u, n + 1u, 2u * i) + dots(v, n + 1u, 2u * i + 1u);
          s2 += dots(u, n + 2u, 2u * i) + dots(v, n + 2u, 2u * i + 1u);
          s3 += dots(u, n + 3u, 2u * i) + dots(v, n + 3u, 2u * i + 1u);
        }
      } else {
        let u = mat4x4f(bitcast<vec4f>(w0), bitcast<vec4f>(w1), bitcast<vec4f>(w2), bitcast<vec4f>(w3));
        s0 += dots(u, n, i);
        if (BATCH > 1u) {
          s1 += dots(u, n + 1u, i);
          s2 += dots(u, n + 2u, i);
          s3 += dots(u, n + 3u, i);
        }
      }
    }
    let column = p.firstColumn + group;
    s0 = subgroupAdd(s0);
    if (BATCH > 1u) {
      s1 = subgroupAdd(s1);
      s2 = subgroupAdd(s2);
      s3 = subgroupAdd(s3);
    }
    if (lane == 0u) {
      finish(s0, row, n, column);
      if (BATCH > 1u) {
        finish(s1, row, n + 1u, column);
        finish(s2, row, n + 2u, column);
        finish(s3, row, n + 3u, column);
      }
    }
  }
}
