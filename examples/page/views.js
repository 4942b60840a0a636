/*
 * What is shown of a forward: bars and feature maps.
 */

/** A list of labels with values; the bars are shares of 1. */
export function showBars(list, rows) {
  list.replaceChildren(
    ...rows.map(({ label, text, share }) => {
      const item = document.createElement('li');
      item.style.setProperty('--share', String(share));
      for (const part of [label, text]) {
        const span = document.createElement('span');
        span.textContent = part;
        item.append(span);
      }
      return item;
    }),
  );
}

export function formatMs(ms) {
  return `${ms < 10 ? ms.toFixed(2) : ms < 100 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

const MOST_MAPS = 128;
const GAP = 2;

/**
 * Draws the channels of a layer side by side, each from its least value (dark) to its greatest (bright).
 * @param {HTMLCanvasElement} canvas
 * @param {{ data: Float32Array, shape: readonly number[] }} tensor (1, C, H, W), or (1, F) as one row of pixels
 */
export function showMaps(canvas, { data, shape }) {
  const [, channels, height, width] = shape.length === 4 ? shape : [1, 1, 1, shape[1]];
  const count = Math.min(channels, MOST_MAPS);
  const room = canvas.parentElement.clientWidth - 32;
  const scale = Math.max(1, Math.floor((width > 100 ? 112 : 56) / width));
  const columns = Math.max(1, Math.min(count, Math.floor((room + GAP) / (width * scale + GAP))));
  const rows = Math.ceil(count / columns);
  canvas.width = columns * (width * scale + GAP) - GAP;
  canvas.height = rows * (height * scale + GAP) - GAP;
  const context = canvas.getContext('2d');
  const map = new OffscreenCanvas(width, height);
  const pixels = new ImageData(width, height);
  context.imageSmoothingEnabled = false;
  for (let c = 0; c < count; c++) {
    const values = data.subarray(c * height * width, (c + 1) * height * width);
    let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    for (const value of values) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    values.forEach((value, i) => {
      const t = high > low ? (value - low) / (high - low) : 0;
      pixels.data.set([255 * t ** 1.6, 255 * t, 70 + 150 * Math.sqrt(t), 255], i * 4);
    });
    map.getContext('2d').putImageData(pixels, 0, 0);
    const x = (c % columns) * (width * scale + GAP);
    const y = Math.floor(c / columns) * (height * scale + GAP);
    context.drawImage(map, x, y, width * scale, height * scale);
  }
  return channels > count ? `${shape.join(' × ')}, the first ${count} channels` : shape.join(' × ');
}
