import { VGGNetError } from '../errors.js';
import { GPUTensor } from '../gpu-tensor.js';
import { numel, Tensor } from '../tensor.js';
import type { Context } from './context.js';
import * as USAGE from './usage.js';

interface Piece {
  readonly buffer: GPUBuffer;
  /** Index of the first image. */
  readonly from: number;
  readonly bytes: number;
}

/** Copies the outputs of a run to the caller: on the GPU one buffer for each output, on the CPU one for each part. */
/** Where the outputs of a run are left. */
export type OutputLocation = 'cpu' | 'gpu';

export class Readback {
  readonly #context: Context;
  readonly #location: OutputLocation;
  readonly #batch: number;
  readonly #pieces = new Map<string, { readonly shape: readonly number[]; readonly pieces: Piece[] }>();

  constructor(context: Context, location: OutputLocation, batch: number) {
    this.#context = context;
    this.#location = location;
    this.#batch = batch;
  }

  /**
   * Encodes the copy of a part's result.
   * @param shape of the part: (images, …)
   * @param from index of the part's first image
   */
  add(encoder: GPUCommandEncoder, name: string, source: GPUBuffer, shape: readonly number[], from: number): void {
    const whole = [this.#batch, ...shape.slice(1)];
    const output = this.#pieces.get(name) ?? { shape: whole, pieces: [] };
    this.#pieces.set(name, output);
    const bytes = numel(shape) * 4;
    const at = numel(shape.slice(1)) * from * 4;
    if (this.#location === 'cpu') {
      const usage = USAGE.mapRead | USAGE.copyTarget;
      const buffer = this.#context.createBuffer(`read-back of ${name}`, bytes, usage);
      output.pieces.push({ buffer, from, bytes });
      encoder.copyBufferToBuffer(source, 0, buffer, 0, bytes);
      return;
    }
    let buffer = output.pieces[0]?.buffer;
    if (!buffer) {
      const size = numel(whole) * 4;
      this.#checkSize(name, size);
      const usage = USAGE.storage | USAGE.copySource | USAGE.copyTarget;
      buffer = this.#context.createBuffer(`output ${name}`, size, usage);
      output.pieces.push({ buffer, from: 0, bytes: size });
    }
    encoder.copyBufferToBuffer(source, 0, buffer, at, bytes);
  }

  #checkSize(name: string, size: number): void {
    const { maxBufferSize } = this.#context.capabilities.limits;
    if (size <= maxBufferSize) return;
    throw new VGGNetError(
      'OUT_OF_MEMORY',
      `${name}: the output needs ${size} bytes, and a GPUBuffer of this device has at most ${maxBufferSize}`,
    );
  }

  /** The outputs in the order of the names. Buffers on the GPU become the caller's. */
  async collect(names: readonly string[]): Promise<(Tensor | GPUTensor)[]> {
    if (this.#location === 'gpu') {
      return names.map((name) => {
        const { shape, pieces } = this.#pieces.get(name) as { shape: readonly number[]; pieces: Piece[] };
        const { buffer } = pieces[0] as Piece;
        this.#context.handOver(buffer);
        return new GPUTensor(buffer, shape);
      });
    }
    const tensors = new Map<string, Tensor>();
    for (const [name, { shape, pieces }] of this.#pieces) {
      const tensor = Tensor.zeros(shape);
      const size = numel(shape.slice(1));
      await Promise.all(
        pieces.map(async ({ buffer, from, bytes }) => {
          await this.#context.wait(buffer.mapAsync(USAGE.mapModeRead, 0, bytes), `reading ${name}`);
          tensor.data.set(new Float32Array(buffer.getMappedRange(0, bytes)), from * size);
          buffer.unmap();
        }),
      );
      tensors.set(name, tensor);
    }
    // A layer that is requested twice gets two tensors.
    return names.map((name, i) => {
      const tensor = tensors.get(name) as Tensor;
      return names.indexOf(name) === i ? tensor : new Tensor(tensor.data.slice(), tensor.shape);
    });
  }

  /** Destroys the buffers that the caller did not get. */
  destroy(): void {
    for (const { pieces } of this.#pieces.values())
      for (const { buffer } of pieces) this.#context.destroyBuffer(buffer);
  }
}
