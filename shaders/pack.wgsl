/*
 * Copies a piece of a parameter from PyTorch's order to its packed layout, and back; a thread copies a value.
 *   conv weight (OC, C, 3, 3) → [3][3][CP][OCP], any other (rows, columns) → [rows][pitch]
 * float32, or float16 two to a word. src/webgpu/ops/pack.ts says which parameter is packed how.
 */
override CONV: bool = false;

struct Params {
  /* Index of the first value in the parameter or shard; how many; index of the first within `values`. */
  first: u32,
  count: u32,
  at: u32,
  /* Values of a row, and of a row as stored. conv2d: C, CP and OCP. */
  columns: u32,
  pitch: u32,
  rows: u32,
}

@group(0) @binding(0) var<storage, read> values: array<f32>;
@group(0) @binding(1) var<storage, read_write> packed: array<f32>;
@group(0) @binding(1) var<storage, read_write> halves: array<atomic<u32>>;
@group(0) @binding(0) var<storage, read_write> plain: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

/* The index of the parameter's value i in the packed layout. */
fn packedIndex(i: u32) -> u32 {
  if (CONV) {
    let tap = i % 9u;
    let c = i / 9u % p.columns;
    let oc = i / 9u / p.columns;
    return (tap * p.pitch + c) * p.rows + oc;
  }
  return i / p.columns * p.pitch + i % p.columns;
}

/* To float16, rounded to nearest, ties to even; in integers, since pack2x16float's rounding depends on the device. */
fn half(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  let sign = (bits >> 16u) & 0x8000u;
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    return sign | 0x7e00u;
  }
  if (magnitude >= 0x477ff000u) {
    return sign | 0x7c00u;
  }
  if (magnitude >= 0x38800000u) {
    return sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13u) & 1u)) >> 13u);
  }
  /* Under 2^−14 the result counts units of 2^−24. */
  let shift = min(126u - (magnitude >> 23u), 31u);
  let mantissa = (magnitude & 0x7fffffu) | 0x800000u;
  let whole = mantissa >> shift;
  let rest = mantissa & ((1u << shift) - 1u);
  let middle = 1u << (shift - 1u);
  return sign | (whole + u32(rest > middle || (rest == middle && (whole & 1u) == 1u)));
}

@compute @workgroup_size(64)
fn pack(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * 64u + id.x;
  if (i < p.count) {
    packed[packedIndex(p.first + i)] = values[p.at + i];
  }
}

@compute @workgroup_size(64)
fn packF16(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * 64u + id.x;
  if (i < p.count) {
    let to = packedIndex(p.first + i);
    let shift = (to & 1u) * 16u;
    /* The other half of the word belongs to another thread or piece. */
    atomicAnd(&halves[to >> 1u], 0xffff0000u >> shift);
    atomicOr(&halves[to >> 1u], half(values[p.at + i]) << shift);
  }
}

@compute @workgroup_size(64)
fn unpack(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * 64u + id.x;
  if (i < p.count) {
    plain[p.at + i] = packed[packedIndex(p.first + i)];
  }
}

@compute @workgroup_size(64)
fn unpackF16(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * 64u + id.x;
  if (i < p.count) {
    let base = packedIndex(p.first + i);
    let both = unpack2x16float(atomicLoad(&halves[base >> 1u]));
    plain[p.at + i] = select(both.x, both.y, (base & 1u) == 1u);
  }
}
