import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { decodeImage, type ImageInput } from '../../src/image/decode.js';
import { golden, greatestDifference, imageBytes, NONE, pattern, unpack } from './golden.js';

/*
 * The canvas adapter against a stand-in for the parts of a browser that it uses, which behaves as the HTML and WebGL
 * standards say: a 2D canvas keeps colours multiplied by alpha, a texture keeps them as they are.
 */

interface Rgba {
  data: Uint8ClampedArray;
  width: number;
  height: number;
}

const open = new Set<FakeBitmap>();
let isForeign = false;
let hasWebgl = true;
let lostContexts = 0;

class FakeBitmap implements Rgba {
  data: Uint8ClampedArray;
  width: number;
  height: number;
  constructor({ data, width, height }: Rgba) {
    this.data = data;
    this.width = width;
    this.height = height;
    open.add(this);
  }
  close(): void {
    open.delete(this);
    this.width = 0;
    this.height = 0;
  }
}

/** The part of an image from (x, y) on, transparent where it has no pixels. */
function cut(source: Rgba, x: number, y: number, width: number, height: number): Rgba {
  const data = new Uint8ClampedArray(width * height * 4);
  for (let row = 0; row < height && row + y < source.height; row++) {
    const from = ((row + y) * source.width + x) * 4;
    const length = Math.min(width, source.width - x) * 4;
    data.set(source.data.subarray(from, from + length), row * width * 4);
  }
  return { data, width, height };
}

class FakeCanvas {
  width: number;
  height: number;
  data: Uint8ClampedArray;
  constructor(width: number, height: number) {
    if (width > 4096 || height > 4096) throw new Error('larger than any canvas should be');
    this.width = width;
    this.height = height;
    this.data = new Uint8ClampedArray(width * height * 4);
  }
  getContext(kind: string): unknown {
    if (kind === '2d') return this.context2d();
    return hasWebgl ? webgl() : null;
  }
  private context2d(): unknown {
    let drawn: Rgba = this;
    return {
      clearRect: () => {},
      drawImage: (source: Rgba, x: number, y: number) => {
        drawn = cut(source, -x, -y, this.width, this.height);
        for (let i = 0; i < drawn.data.length; i += 4) {
          const alpha = (drawn.data[i + 3] as number) / 255;
          for (let c = 0; c < 3; c++) {
            const kept = Math.round((drawn.data[i + c] as number) * alpha);
            drawn.data[i + c] = alpha === 0 ? 0 : Math.round(kept / alpha);
          }
        }
      },
      getImageData: (x: number, y: number, width: number, height: number) => {
        if (isForeign) throw Object.assign(new Error('tainted'), { name: 'SecurityError' });
        return cut(drawn, x, y, width, height);
      },
    };
  }
}

function webgl(): unknown {
  let texture: Rgba | undefined;
  return new Proxy(
    {
      NO_ERROR: 0,
      getError: () => 0,
      texImage2D: (...args: unknown[]) => {
        texture = { ...(args[5] as Rgba) };
      },
      readPixels: (x: number, y: number, w: number, h: number, _f: number, _t: number, into: Uint8Array) => {
        into.set(cut(texture as Rgba, x, y, w, h).data);
      },
      getExtension: () => ({ loseContext: () => lostContexts++ }),
    } as Record<string, unknown>,
    { get: (known, name: string) => known[name] ?? (() => undefined) },
  );
}

/** What `createImageBitmap` decodes a file to in the tests that follow. */
let file: Rgba | Error;

async function fakeCreateImageBitmap(source: Blob | Rgba, ...rest: unknown[]): Promise<FakeBitmap> {
  const options = rest.at(-1);
  expect(options).toEqual({ premultiplyAlpha: 'none', colorSpaceConversion: 'none' });
  if (source instanceof Blob) {
    if (file instanceof Error) throw file;
    return new FakeBitmap(file);
  }
  const [x, y, width, height] = rest as number[];
  return new FakeBitmap(cut(source, x as number, y as number, width as number, height as number));
}

beforeEach(() => {
  vi.stubGlobal('createImageBitmap', fakeCreateImageBitmap);
  vi.stubGlobal('OffscreenCanvas', FakeCanvas);
  vi.stubGlobal('ImageBitmap', FakeBitmap);
  isForeign = false;
  hasWebgl = true;
  lostContexts = 0;
});
afterEach(() => {
  vi.unstubAllGlobals();
  open.clear();
});

function rgba(rgb: Uint8Array, width: number, height: number, alpha: (i: number) => number): Rgba {
  const data = new Uint8ClampedArray(width * height * 4);
  for (let i = 0; i < width * height; i++) {
    data.set(rgb.subarray(3 * i, 3 * i + 3), 4 * i);
    data[4 * i + 3] = alpha(i);
  }
  return { data, width, height };
}

const opaque = (): number => 255;

describe('files, where there is a canvas', () => {
  test('an opaque one, of more than one tile', async () => {
    const rgb = pattern(2100, 2060);
    file = rgba(rgb, 2100, 2060, opaque);
    const image = await decodeImage(imageBytes('rgb.png'));
    expect([image.width, image.height, image.channels]).toEqual([2100, 2060, 3]);
    expect(greatestDifference(image.data, rgb)).toEqual(NONE);
    expect(open.size).toBe(0);
    expect(lostContexts).toBe(0);
  });

  test('transparent pixels keep their colours', async () => {
    const rgb = pattern(2100, 20);
    file = rgba(rgb, 2100, 20, (i) => i % 256);
    const image = await decodeImage(imageBytes('rgba.png'));
    expect(greatestDifference(image.data, rgb)).toEqual(NONE);
    expect(open.size).toBe(0);
    expect(lostContexts).toBe(1);
  });

  test('transparent pixels without WebGL 2 are refused, not changed', async () => {
    hasWebgl = false;
    file = rgba(pattern(8, 8), 8, 8, () => 128);
    await expect(decodeImage(imageBytes('rgba.png'))).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
    expect(open.size).toBe(0);
  });

  test.each(['orientation-6.jpg', 'orientation-6.png', 'orientation-6.webp'])('%s is turned', async (name) => {
    const upright = golden.files[name] as { width: number; height: number; pixels: string };
    // What the file stores: the upright picture turned a quarter to the left.
    const pixels = unpack(upright.pixels);
    const stored = new Uint8Array(pixels.length);
    for (let y = 0; y < upright.width; y++) {
      for (let x = 0; x < upright.height; x++) {
        const from = (x * upright.width + (upright.width - 1 - y)) * 3;
        stored.set(pixels.subarray(from, from + 3), (y * upright.height + x) * 3);
      }
    }
    file = rgba(stored, upright.height, upright.width, opaque);
    const image = await decodeImage(imageBytes(name));
    expect([image.width, image.height]).toEqual([upright.width, upright.height]);
    expect(greatestDifference(image.data, pixels)).toEqual(NONE);
  });

  test('what the browser cannot decode', async () => {
    file = new Error('The source image could not be decoded.');
    await expect(decodeImage(imageBytes('rgb.png'))).rejects.toMatchObject({ code: 'INVALID_IMAGE', cause: file });
  });

  test('truncated, animated and enormous files never reach the browser', async () => {
    const bytes = imageBytes('baseline.jpg');
    file = rgba(pattern(4, 4), 4, 4, opaque);
    await expect(decodeImage(bytes.subarray(0, -2))).rejects.toMatchObject({ code: 'INVALID_IMAGE' });
    await expect(decodeImage(imageBytes('animated.webp'))).rejects.toMatchObject({ code: 'INVALID_IMAGE' });
    const enormous = imageBytes('rgb.png');
    enormous[16] = 1;
    await expect(decodeImage(enormous)).rejects.toMatchObject({ code: 'IMAGE_TOO_LARGE' });
  });
});

describe('pictures that a browser holds', () => {
  const picture = (): FakeBitmap => new FakeBitmap(rgba(pattern(30, 20), 30, 20, opaque));
  const decode = (input: unknown): ReturnType<typeof decodeImage> => decodeImage(input as ImageInput);

  test('an ImageBitmap is read and left open', async () => {
    const bitmap = picture();
    expect(greatestDifference((await decode(bitmap)).data, pattern(30, 20))).toEqual(NONE);
    expect(open.has(bitmap)).toBe(true);
  });

  test('a canvas with transparent pixels needs no WebGL', async () => {
    hasWebgl = false;
    const canvas = new FakeCanvas(2, 1);
    canvas.data.set([9, 8, 7, 255, 0, 0, 0, 0]);
    expect([...(await decode(canvas)).data]).toEqual([9, 8, 7, 0, 0, 0]);
  });

  test('a closed one', async () => {
    const bitmap = picture();
    bitmap.close();
    await expect(decode(bitmap)).rejects.toMatchObject({ code: 'INVALID_IMAGE' });
  });

  test('one of another origin', async () => {
    isForeign = true;
    await expect(decode(picture())).rejects.toMatchObject({ code: 'IO', message: expect.stringContaining('CORS') });
  });
});
