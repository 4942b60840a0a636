/*
 * Batch normalization over (N, H, W) of each channel: x (N, H, W, CP) → y (N, H, W, CP), float32,
 *   y = (x − mean) / √(variance + eps) · weight + bias
 * with vectors mean, variance, weight and bias of CP values. Source: Ioffe and Szegedy, "Batch
 * Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift", 2015. In train mode mean and
 * variance are the batch's: `sums` and `statistics` run for the mean, then with SQUARES for the squares around it. In
 * eval mode `fold` makes the factor and addend of the convolution before it.
 */
override SQUARES: bool = false;

struct Params {
  /* normalize: vectors of x. sums, statistics: pixels. fold: vectors of channels. */
  count: u32,
  c4: u32,
  blocks: u32,
  relu: u32,
  eps: f32,
  momentum: f32,
}

/* Pixels that a workgroup adds up, in LANES lanes, for COLUMNS vectors of channels. */
const BLOCK = 512u;
const LANES = 8u;
const COLUMNS = 8u;

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> mean: array<vec4f>;
@group(0) @binding(2) var<storage, read> variance: array<vec4f>;
@group(0) @binding(3) var<storage, read> weight: array<vec4f>;
@group(0) @binding(4) var<storage, read> bias: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(6) var<uniform> p: Params;

@compute @workgroup_size(64)
fn normalize(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= p.count) {
    return;
  }
  let c = i % p.c4;
  var v = (x[i] - mean[c]) / sqrt(variance[c] + p.eps) * weight[c] + bias[c];
  if (p.relu > 0u) {
    v = select(v, vec4f(), (bitcast<vec4u>(v) - vec4u(0x80000000u)) <= vec4u(0x7f800000u));
  }
  y[i] = v;
}

/* scale = weight / √(variance + eps), shift = (x − mean) · scale + bias, where x is the convolution's bias. */
@group(0) @binding(5) var<storage, read_write> scale: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> shift: array<vec4f>;
@group(0) @binding(7) var<uniform> folds: Params;

@compute @workgroup_size(64)
fn fold(@builtin(global_invocation_id) id: vec3u) {
  let c = id.x;
  if (c < folds.count) {
    let s = weight[c] / sqrt(variance[c] + folds.eps);
    scale[c] = s;
    shift[c] = (x[c] - mean[c]) * s + bias[c];
  }
}

/* Scratch. Never bound as read-only, as the same pass writes other parts of the buffer. */
@group(0) @binding(1) var<storage, read_write> center: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> partial: array<vec4f>;
@group(0) @binding(3) var<uniform> q: Params;
var<workgroup> lanes: array<array<vec4f, COLUMNS>, LANES>;

/* partial[block][c] = Σ x, or Σ (x − mean)². */
@compute @workgroup_size(COLUMNS, LANES)
fn sums(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_id) local: vec3u,
) {
  let block = id.y * groups.x + id.x;
  let c = id.z * COLUMNS + local.x;
  var sum = vec4f();
  if (block < q.blocks && c < q.c4) {
    var around = vec4f();
    if (SQUARES) {
      around = center[c];
    }
    let end = min(q.count, (block + 1u) * BLOCK);
    for (var pixel = block * BLOCK + local.y; pixel < end; pixel += LANES) {
      let v = x[pixel * q.c4 + c] - around;
      if (SQUARES) {
        sum += v * v;
      } else {
        sum += v;
      }
    }
  }
  lanes[local.y][local.x] = sum;
  workgroupBarrier();
  if (local.y == 0u && block < q.blocks && c < q.c4) {
    for (var i = 1u; i < LANES; i++) {
      sum += lanes[i][local.x];
    }
    partial[block * q.c4 + c] = sum;
  }
}

@group(0) @binding(0) var<storage, read_write> parts: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> statistic: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> running: array<vec4f>;

/* The mean or the biased variance. The running one moves towards the mean or the unbiased variance. */
@compute @workgroup_size(64)
fn statistics(@builtin(global_invocation_id) id: vec3u) {
  let c = id.x;
  if (c >= q.c4) {
    return;
  }
  var sum = vec4f();
  for (var block = 0u; block < q.blocks; block++) {
    sum += parts[block * q.c4 + c];
  }
  statistic[c] = sum / f32(q.count);
  var divisor = f32(q.count);
  if (SQUARES) {
    divisor = f32(q.count - 1u);
  }
  running[c] = (1f - q.momentum) * running[c] + q.momentum * sum / divisor;
}
