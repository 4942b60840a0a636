/** Pixels are read in squares of this side: any canvas and any texture can be as large as that. */
export const TILE = 2048;

/** How colours are asked for that no profile and no alpha has changed. */
export const AS_STORED = { premultiplyAlpha: 'none', colorSpaceConversion: 'none' } as const;

/** The squares of an image. */
export function* tilesOf(width: number, height: number): Generator<{ x: number; y: number; w: number; h: number }> {
  for (let y = 0; y < height; y += TILE) {
    for (let x = 0; x < width; x += TILE) {
      yield { x, y, w: Math.min(TILE, width - x), h: Math.min(TILE, height - y) };
    }
  }
}

/** Copies the colours of an RGBA tile of w×h to (x, y) of an RGB image. */
export function copyTile(
  tile: Uint8Array | Uint8ClampedArray,
  w: number,
  h: number,
  rgb: Uint8Array,
  width: number,
  x: number,
  y: number,
): void {
  for (let row = 0, from = 0; row < h; row++) {
    let to = ((y + row) * width + x) * 3;
    for (let column = 0; column < w; column++, from += 4, to += 3) {
      rgb[to] = tile[from] as number;
      rgb[to + 1] = tile[from + 1] as number;
      rgb[to + 2] = tile[from + 2] as number;
    }
  }
}
