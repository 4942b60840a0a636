/*
 * Linear layer of few rows: x (N, KP), W [M][KP], b (M) → y (N, MP): y = x Wᵀ + b, then an optional ReLU. Reading W
 * takes most of its time, so every weight is read once, 16 bytes a thread, by neighboring threads next to each other.
 * Sums are float32; W is float32 or float16.
 */
override F16: bool = false;
/* Rows of x that a workgroup takes, 1 to 4. */
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
/* The partial sums of each thread, for each row of x. */
var<workgroup> part: array<vec4f, BATCH * SIZE>;

fn rectify(v: vec4f) -> vec4f {
  return select(v, vec4f(), (bitcast<vec4u>(v) - vec4u(0x80000000u)) <= vec4u(0x7f800000u));
}

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

/* A workgroup makes 4 columns of y for BATCH rows: its threads partition K, then add up their sums. */
@compute @workgroup_size(SIZE)
fn linear(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) t: u32,
) {
  let group = id.y * groups.x + id.x;
  if (group >= p.groups) {
    return;
  }
  let units = select(p.k4, (p.k4 + 1u) / 2u, F16);
  let last = p.rows - 1u;
  let row = vec4u(group * 4u) + vec4u(0u, 1u, 2u, 3u);
  /* Rows past the end are read as the last one, and dropped at the end. */
  let base = min(row, vec4u(last)) * units;
  let n = id.z * BATCH;
  var s0 = vec4f();
  var s1 = vec4f();
  var s2 = vec4f();
  var s3 = vec4f();
  for (var i = t; i < units; i += SIZE) {
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
  part[t] = s0;
  if (BATCH > 1u) {
    part[SIZE + t] = s1;
    part[2u * SIZE + t] = s2;
    part[3u * SIZE + t] = s3;
  }
  workgroupBarrier();
  if (t < BATCH && n + t < p.n) {
    var sum = vec4f();
    for (var i = 0u; i < SIZE; i++) {
      sum += part[t * SIZE + i];
    }
    finish(sum, row, n + t, group);
  }
}

fn finish(sum: vec4f, row: vec4u, n: u32, group: u32) {
  let column = p.firstColumn + group;
  var v = select(vec4f(), sum + bias[column], row < vec4u(p.rows));
  if (p.relu > 0u) {
    v = rectify(v);
  }
  y[n * p.yPitch + column] = v;
}

struct Sum {
  count: u32,
  columns: u32,
  parts: u32,
  firstColumn: u32,
  yPitch: u32,
  /* Columns of y up to the end of the shard. */
  end: u32,
  relu: u32,
}

@group(0) @binding(1) var<storage, read> addend: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> total: array<vec4f>;
@group(0) @binding(3) var<uniform> q: Sum;

/* Adds up the parts of a product split along K (gemm.wgsl): x [parts][count] → y. A thread makes a vector. */
@compute @workgroup_size(64)
fn sum(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= q.count) {
    return;
  }
  let column = q.firstColumn + i % q.columns;
  var v = addend[column];
  for (var part = 0u; part < q.parts; part++) {
    v += x[part * q.count + i];
  }
  if (q.relu > 0u) {
    v = rectify(v);
  }
  v = select(vec4f(), v, vec4u(column * 4u) + vec4u(0u, 1u, 2u, 3u) < vec4u(q.end));
  total[i / q.columns * q.yPitch + column] = v;
}
