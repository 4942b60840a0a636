import { abortable } from '../abort.js';
import { abortError, throwIfAborted, VGGNetError } from '../errors.js';
import type { Tensor } from '../tensor.js';
import { checkedHeader, type DecodeOptions, decodeFile, usesCanvas } from './decode.js';
import { type ImageHeader, nameOf } from './header.js';
import { placementOf, preprocessSteps } from './preprocess.js';
import { type ImagePreset, presetChannels, validatePreset } from './preset.js';
import type { RawImage } from './raw-image.js';
import { inSlices } from './steps.js';

export interface DecodePoolOptions {
  /** Memory that decoding may take at once, in all, in bytes. Default 128 MiB. */
  readonly maxBytes?: number | undefined;
  /** Width times height of a picture at most. Default 25,000,000. */
  readonly maxPixels?: number | undefined;
  /** Decodes in place of the decoder that there is here. It is counted as taking 8 bytes a pixel. */
  readonly decode?: ((file: Uint8Array<ArrayBuffer>, signal: AbortSignal) => Promise<RawImage>) | undefined;
}

/**
 * Decoders at once, which the budget bounds before for all but small pictures. Sharp runs in libuv's threads, of which
 * there are four; the others keep them busy while the event loop is.
 */
const MAX_ACTIVE = 16;

/** Of decoders that nothing more is known of: RGBA, and once more as much. */
const UNKNOWN_BYTES_PER_PIXEL = 8;

/** A file whose header has been read. */
interface Ticket {
  readonly bytes: number;
  readonly start: () => void;
}

/**
 * Turns image files into tensors within a budget of memory. Files wait in order of arrival until what their decoder
 * will take at its peak is free; a large one at the head lets no small one pass, so that none waits for ever. A file
 * counts against the budget until its decoder and preprocessing have ended, also if its caller has left.
 */
export class DecodePool {
  readonly #maxBytes: number;
  readonly #maxPixels: number;
  readonly #decode: DecodePoolOptions['decode'];
  readonly #line: Ticket[] = [];
  /** Headers are read one after another, which keeps the order. */
  #lastHeader: Promise<unknown> = Promise.resolve();
  #reading = 0;
  #active = 0;
  #used = 0;

  /** @throws VGGNetError `INVALID_ARGUMENT` */
  constructor(options: DecodePoolOptions = {}) {
    this.#maxBytes = positiveInteger('maxBytes', options.maxBytes ?? 128 * 2 ** 20);
    this.#maxPixels = positiveInteger('maxPixels', options.maxPixels ?? 25_000_000);
    this.#decode = options.decode;
  }

  /** Files whose decoder has not started. */
  get waiting(): number {
    return this.#reading + this.#line.length;
  }

  /** Files that are being decoded or preprocessed. */
  get active(): number {
    return this.#active;
  }

  /**
   * Decodes and preprocesses a file to (1, C, H, W), as the function `imageToTensor` does.
   * @param file JPEG, PNG, WebP or still GIF. It is not copied: it must stay as it is until the promise settles
   * @throws VGGNetError `IMAGE_TOO_LARGE` over `maxPixels`, or if the file would not fit the budget alone;
   * `INVALID_IMAGE`, `INVALID_ARGUMENT`, `MISSING_PEER`, `OUT_OF_MEMORY`, `ABORTED`
   */
  async imageToTensor(
    file: Uint8Array<ArrayBuffer>,
    preset: ImagePreset,
    options: DecodeOptions = {},
  ): Promise<Tensor> {
    const { signal, deterministic = false } = options;
    validatePreset(preset);
    throwIfAborted(signal);
    this.#reading++;
    const { header, bytes } = await this.#measure(file, preset, deterministic, signal).finally(() => this.#reading--);
    await this.#enter(bytes, signal);
    const work = this.#work(file, header, preset, deterministic, signal).finally(() => {
      this.#active--;
      this.#used -= bytes;
      this.#admit();
    });
    return abortable(work, signal);
  }

  async #measure(
    file: Uint8Array<ArrayBuffer>,
    preset: ImagePreset,
    deterministic: boolean,
    signal: AbortSignal | undefined,
  ): Promise<{ header: ImageHeader; bytes: number }> {
    const measured = this.#lastHeader.then(async () => {
      throwIfAborted(signal);
      const header = await inSlices(checkedHeader(file), signal);
      return { header, bytes: await this.#peakOf(file, header, preset, deterministic) };
    });
    this.#lastHeader = measured.catch(() => {});
    return abortable(measured, signal);
  }

  /** Bytes that a file takes at its peak: of the decoder, then of the tensor. */
  async #peakOf(file: Uint8Array, header: ImageHeader, preset: ImagePreset, deterministic: boolean): Promise<number> {
    const { width, height } = header;
    const name = nameOf(header);
    if (width * height > this.#maxPixels) {
      throw new VGGNetError(
        'IMAGE_TOO_LARGE',
        `${name} may have at most ${this.#maxPixels} pixels here, got ${width}×${height}; send it smaller, or raise maxPixels`,
      );
    }
    const { x, y } = placementOf(header, preset);
    // Bytes and floats of the result, and what a narrower picture of the same height takes between.
    const after = (x.size * y.size * 5 + x.length * height) * presetChannels(preset);
    const bytes = Math.ceil((await this.#decoderPeak(file, header, deterministic)) + after);
    if (bytes > this.#maxBytes) {
      throw new VGGNetError(
        'IMAGE_TOO_LARGE',
        `${name} of ${width}×${height} takes ${toMiB(bytes)} MiB to decode${header.isProgressive ? ', being progressive' : ''}, and there may be ${toMiB(this.#maxBytes)}; send it smaller, or raise maxBytes`,
      );
    }
    return bytes;
  }

  async #decoderPeak(file: Uint8Array, header: ImageHeader, deterministic: boolean): Promise<number> {
    if (this.#decode || usesCanvas(header, deterministic)) {
      return header.width * header.height * UNKNOWN_BYTES_PER_PIXEL;
    }
    const { chooseDecoder } = await import('./decoders.js');
    return (await chooseDecoder(header, deterministic)).peak(file);
  }

  /** Takes a file's part of the budget, when its turn has come; who took it must give it back. */
  #enter(bytes: number, signal: AbortSignal | undefined): Promise<void> {
    throwIfAborted(signal);
    return new Promise<void>((resolve, reject) => {
      const leave = (): void => {
        this.#line.splice(this.#line.indexOf(ticket), 1);
        // It may have kept the others waiting.
        this.#admit();
        reject(abortError(signal));
      };
      const start = (): void => {
        signal?.removeEventListener('abort', leave);
        resolve();
      };
      const ticket = { bytes, start };
      signal?.addEventListener('abort', leave, { once: true });
      this.#line.push(ticket);
      this.#admit();
    });
  }

  #admit(): void {
    for (;;) {
      const [next] = this.#line;
      if (!next || this.#active === MAX_ACTIVE || this.#used + next.bytes > this.#maxBytes) return;
      this.#line.shift();
      this.#active++;
      this.#used += next.bytes;
      next.start();
    }
  }

  async #work(
    file: Uint8Array<ArrayBuffer>,
    header: ImageHeader,
    preset: ImagePreset,
    deterministic: boolean,
    signal: AbortSignal | undefined,
  ): Promise<Tensor> {
    throwIfAborted(signal);
    const decoded =
      this.#decode?.(file, signal ?? new AbortController().signal) ?? decodeFile(file, header, deterministic);
    const image = await decoded;
    throwIfAborted(signal);
    return inSlices(preprocessSteps(image, preset), signal);
  }
}

function toMiB(bytes: number): number {
  return Math.ceil(bytes / 2 ** 20);
}

function positiveInteger(name: string, value: number): number {
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new VGGNetError('INVALID_ARGUMENT', `${name} must be an integer above 0, got ${String(value)}`);
}
