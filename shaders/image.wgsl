/*
 * Turns a picture into the input of a network: Pillow's antialiased bilinear resize, a crop, then the preset's values.
 *   across     texture (H, W) RGBA → bytes (rows, width), the colors of a pixel in one word: filters along the rows
 *   normalize  bytes → (1, C, height, width) float32: filters down the columns, then looks up a table of 256 values a
 *              channel
 * Weights are fixed point with 22 bits, and each pass rounds to 8 bits, so that every value equals that of
 * src/image/resize.ts. The filter of an output is its first input, its count of inputs, and `stride` weights.
 */
struct Params {
  /* Of the resized part, and its position in the result; pixels outside are black. */
  width: u32,
  height: u32,
  left: u32,
  top: u32,
  outWidth: u32,
  outHeight: u32,
  /* Rows that the first pass makes, and the texture's row of the first. */
  rows: u32,
  firstRow: u32,
  stride: u32,
  channels: u32,
  /* 1: the first channel is blue. */
  bgr: u32,
}

const HALF = 1i << 21u;

@group(0) @binding(0) var picture: texture_2d<f32>;
@group(0) @binding(0) var<storage, read> bytes: array<u32>;
@group(0) @binding(1) var<storage, read> weights: array<i32>;
@group(0) @binding(2) var<storage, read_write> line: array<u32>;
@group(0) @binding(2) var<storage, read_write> values: array<f32>;
@group(0) @binding(3) var<storage, read> table: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

fn colors(x: i32, y: i32) -> vec3i {
  let c = vec3i(textureLoad(picture, vec2i(x, y), 0).rgb * 255.0 + 0.5);
  if (p.channels == 1u) {
    return vec3i((c.r * 19595 + c.g * 38470 + c.b * 7471 + 0x8000) >> 16u);
  }
  return c;
}

fn rounded(sum: vec3i) -> vec3i {
  return min(sum >> vec3u(22u), vec3i(255));
}

@compute @workgroup_size(8, 8)
fn across(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= p.width || id.y >= p.rows) {
    return;
  }
  let at = id.x * (p.stride + 2u);
  let start = weights[at];
  let count = weights[at + 1u];
  var sum = vec3i(HALF);
  for (var k = 0; k < count; k++) {
    sum += colors(start + k, i32(p.firstRow + id.y)) * weights[at + 2u + u32(k)];
  }
  let c = vec3u(rounded(sum));
  line[id.y * p.width + id.x] = c.r | (c.g << 8u) | (c.b << 16u);
}

@compute @workgroup_size(8, 8)
fn normalize(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= p.outWidth || id.y >= p.outHeight) {
    return;
  }
  var c = vec3i(0);
  let x = i32(id.x) - i32(p.left);
  let y = i32(id.y) - i32(p.top);
  if (x >= 0 && x < i32(p.width) && y >= 0 && y < i32(p.height)) {
    let at = u32(y) * (p.stride + 2u);
    let start = weights[at] - i32(p.firstRow);
    let count = weights[at + 1u];
    var sum = vec3i(HALF);
    for (var k = 0; k < count; k++) {
      let word = bytes[u32(start + k) * p.width + u32(x)];
      sum += vec3i(vec3u(word, word >> 8u, word >> 16u) & vec3u(255u)) * weights[at + 2u + u32(k)];
    }
    c = rounded(sum);
  }
  let plane = p.outWidth * p.outHeight;
  let to = id.y * p.outWidth + id.x;
  for (var i = 0u; i < p.channels; i++) {
    let source = select(i, 2u - i, p.bgr == 1u);
    values[i * plane + to] = table[i * 256u + u32(c[source])];
  }
}
