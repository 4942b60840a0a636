/** How an image becomes a network's input; it belongs to the weights, which were trained with it. */
export interface ImagePreset {
  /** The order of the input's channels; 'L' is grey. */
  readonly mode: 'RGB' | 'BGR' | 'L';
  /** The shorter side is resized to this many pixels (antialiased bilinear); null keeps the size. */
  readonly resize: number | null;
  /** Side of the square that is cut out of the centre, in pixels; null keeps the whole. */
  readonly crop: number | null;
  /** Each channel becomes `(value * scale - mean) / std`, with `value` from 0 to 255. */
  readonly scale: number;
  readonly mean: readonly number[];
  readonly std: readonly number[];
}
