import { VGGNetError } from '../errors.js';
import type { Drawable } from './canvas.js';
import { AS_STORED, copyTile, tilesOf } from './tiles.js';

/**
 * Reads the colours of a picture by a WebGL texture, which takes colours as they are stored. A 2D canvas multiplies them by their alpha and
 * divides again, and nothing is left of those that are fully transparent.
 */
export async function readTransparent(source: Drawable, width: number, height: number, rgb: Uint8Array): Promise<void> {
  const gl = new OffscreenCanvas(1, 1).getContext('webgl2');
  if (!gl) {
    throw new VGGNetError(
      'BACKEND_UNAVAILABLE',
      'Reading the colours of an image with transparent pixels needs WebGL 2, which this browser does not give; draw the image on a canvas of the background wanted and pass that',
    );
  }
  try {
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
    gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
    gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
    for (const { x, y, w, h } of tilesOf(width, height)) {
      const tile = await createImageBitmap(source, x, y, w, h, AS_STORED);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, tile);
      tile.close();
      gl.framebufferTexture2D(
        gl.FRAMEBUFFER,
        gl.COLOR_ATTACHMENT0,
        gl.TEXTURE_2D,
        gl.getParameter(gl.TEXTURE_BINDING_2D),
        0,
      );
      const data = new Uint8Array(w * h * 4);
      gl.readPixels(0, 0, w, h, gl.RGBA, gl.UNSIGNED_BYTE, data);
      const failure = gl.getError();
      if (failure !== gl.NO_ERROR) throw new Error(`WebGL error ${failure}`);
      copyTile(data, w, h, rgb, width, x, y);
    }
  } finally {
    gl.getExtension('WEBGL_lose_context')?.loseContext();
  }
}
