import { VGGNetError } from './errors.js';
import { checkShape, formatShape, numel } from './tensor.js';

/** `GPUBufferUsage.COPY_SRC`; Node has no such global. */
const COPY_SRC = 0x4;

/**
 * A tensor in a `GPUBuffer`: float32, row-major, without padding; images are (N, C, H, W). The caller owns the buffer,
 * whether the caller or a model made it. A model keeps no reference to it.
 */
export class GPUTensor {
  readonly buffer: GPUBuffer;
  readonly shape: readonly number[];
  /** Of the first value, in bytes. */
  readonly offset: number;

  /**
   * @param buffer of the model's device, with usage COPY_SRC
   * @param options.offset a multiple of 4; default 0
   * @throws VGGNetError `INVALID_ARGUMENT` if `buffer` is not a GPUBuffer, lacks the usage, or is mapped;
   * `INVALID_SHAPE` if it is too small for the shape
   */
  constructor(buffer: GPUBuffer, shape: readonly number[], { offset = 0 }: { offset?: number } = {}) {
    checkShape(shape);
    if (typeof (buffer as Partial<GPUBuffer> | null)?.mapAsync !== 'function') {
      throw new VGGNetError(
        'INVALID_ARGUMENT',
        `Expected a GPUBuffer, got ${buffer === null ? 'null' : typeof buffer}`,
      );
    }
    if ((buffer.usage & COPY_SRC) === 0) {
      throw new VGGNetError('INVALID_ARGUMENT', `The GPUBuffer needs the usage COPY_SRC, got usage ${buffer.usage}`);
    }
    if (buffer.mapState !== 'unmapped') {
      throw new VGGNetError('INVALID_ARGUMENT', `The GPUBuffer is ${buffer.mapState}: unmap it first`);
    }
    if (!Number.isSafeInteger(offset) || offset < 0 || offset % 4 !== 0) {
      throw new VGGNetError('INVALID_ARGUMENT', `offset must be a multiple of 4, got ${String(offset)}`);
    }
    const bytes = numel(shape) * 4;
    if (offset + bytes > buffer.size) {
      throw new VGGNetError(
        'INVALID_SHAPE',
        `Shape ${formatShape(shape)} needs ${bytes} bytes from byte ${offset} on, and the GPUBuffer has ${buffer.size}`,
      );
    }
    this.buffer = buffer;
    this.shape = Object.freeze([...shape]);
    this.offset = offset;
  }

  /** Destroys the buffer. */
  destroy(): void {
    this.buffer.destroy();
  }

  toString(): string {
    return `GPUTensor(${formatShape(this.shape)})`;
  }
}
