import type { ParameterChunk } from '../backend.js';
import { type Layer, type ParameterSpec, parametersOf } from '../program/layers.js';
import { type Arriving, ParameterTable } from '../program/parameter-table.js';
import { numel } from '../tensor.js';
import { Commands } from './commands.js';
import type { Context } from './context.js';
import type { BufferView, Dispatch } from './kernel.js';
import { type PackedLayout, packedLayout, packPiece, unpackPiece } from './ops/pack.js';
import * as USAGE from './usage.js';

/** Values that fit the staging buffer: 1 MiB. */
const MAX_STAGED = 262_144;
/** Values read back at once without the staging buffer: 16 MiB. */
const MAX_COPIED = 16 * MAX_STAGED;
/** Dispatches of a piece: one for each shard that it lies in. */
const MAX_PIECES = 64;

interface Parameter extends Arriving {
  readonly layer: Layer;
  readonly layout: PackedLayout;
  readonly views: readonly BufferView[];
  /** The packed layout is PyTorch's order, so values are copied and not packed. */
  readonly plain: boolean;
}

/** The parameters of a program in buffers of a device, packed as they arrive. */
export class Parameters {
  readonly #context: Context;
  readonly #table = new ParameterTable<Parameter>();
  readonly #stage: GPUBuffer;
  readonly #uniform: GPUBuffer;
  readonly #buffers: GPUBuffer[] = [];

  private constructor(context: Context) {
    this.#context = context;
    this.#stage = this.#make('staging of weights', MAX_STAGED * 4, USAGE.storage | USAGE.copyTarget | USAGE.copySource);
    this.#uniform = this.#make('uniforms of pack', MAX_PIECES * 256, USAGE.uniform | USAGE.copyTarget);
  }

  /**
   * Makes all buffers first, so that a lack of memory shows before anything is read.
   * @throws VGGNetError `OUT_OF_MEMORY`, which names the layer; `DEVICE_LOST`
   */
  static async create(context: Context, layers: readonly Layer[]): Promise<Parameters> {
    const staged = context.attempt('staging of weights', () => new Parameters(context));
    const parameters = staged.result;
    const checks = [staged.checked];
    try {
      for (const layer of layers) {
        for (const spec of parametersOf(layer)) {
          const { checked } = context.attempt(`weights of ${layer.name}`, () => parameters.#allocate(layer, spec));
          checks.push(checked);
        }
      }
      await Promise.all(checks);
    } catch (error) {
      parameters.destroy();
      throw error;
    }
    return parameters;
  }

  #make(label: string, size: number, usage: number): GPUBuffer {
    const buffer = this.#context.createBuffer(label, size, usage);
    this.#buffers.push(buffer);
    return buffer;
  }

  #allocate(layer: Layer, spec: ParameterSpec): void {
    const key = spec.name.slice(layer.path.length + 1);
    const layout = packedLayout(layer, key, this.#context.capabilities);
    const views = layout.shards.map(({ from, to, bytes }) => {
      const rows = layout.shards.length > 1 ? ` rows ${from} to ${to}` : '';
      const label = `${layer.name}.${key}${rows}`;
      const buffer = this.#make(label, bytes, USAGE.storage | USAGE.copyTarget | USAGE.copySource);
      return { buffer, offset: 0, size: buffer.size };
    });
    const plain = layout.kind === 'rows' && !layout.f16 && layout.pitch === layout.columns;
    this.#table.add({ layer, spec, layout, views, plain, written: 0 });
  }

  /** The buffers of a parameter: a view for each shard. */
  views(layer: Layer, key: string): readonly BufferView[] {
    return this.#table.find(`${layer.path}.${key}`).views;
  }

  /** The buffer of a parameter that has one shard. */
  view(layer: Layer, key: string): BufferView {
    return this.views(layer, key)[0] as BufferView;
  }

  /** Any storage buffer of this device. */
  get any(): BufferView {
    return { buffer: this.#stage, offset: 0, size: this.#stage.size };
  }

  layout(layer: Layer, key: string): PackedLayout {
    return this.#table.find(`${layer.path}.${key}`).layout;
  }

  /**
   * Packs consecutive values of a parameter. Chunks must come in order.
   * @throws VGGNetError `WEIGHTS_MISMATCH`, `DEVICE_LOST`, `GPU_ERROR`
   */
  async write(chunk: ParameterChunk): Promise<void> {
    const { offset, data } = chunk;
    const parameter = this.#table.take(chunk);
    for (let from = 0; from < data.length; from += MAX_STAGED) {
      const part = data.subarray(from, from + MAX_STAGED);
      if (parameter.plain) await this.#copy(parameter, offset + from, part);
      else await this.#pack(parameter, offset + from, part);
    }
  }

  async #copy({ layout, views }: Parameter, offset: number, data: Float32Array): Promise<void> {
    for (const { view, start, end, first } of overlaps(layout, views, offset, data.length)) {
      await this.#context.write(view.buffer, (start - first) * 4, data.subarray(start - offset, end - offset));
    }
  }

  async #pack({ layout, views, layer }: Parameter, offset: number, data: Float32Array): Promise<void> {
    await this.#context.write(this.#stage, 0, data);
    const values = { buffer: this.#stage, offset: 0, size: data.byteLength };
    await this.#dispatch(`packing ${layer.name}`, packPiece(layout, { offset, count: data.length, values }, views));
  }

  async #dispatch(label: string, dispatches: readonly Dispatch[], after?: (encoder: GPUCommandEncoder) => void) {
    const commands = await Commands.prepare(this.#context, [{ label, dispatches }], this.#uniform);
    await this.#context.submit(label, (encoder) => {
      commands.encodePass(encoder, label);
      after?.(encoder);
    });
  }

  /** Overwrites a parameter. */
  async replace(name: string, data: Float32Array): Promise<void> {
    const parameter = this.#table.find(name);
    parameter.written = 0;
    await this.write({ name, offset: 0, data });
  }

  /** Call after the last `write`: checks that every value has arrived. */
  async finish(): Promise<void> {
    this.#table.checkComplete();
    await this.#context.settle();
  }

  /** The current values of a parameter, rounded if they are stored as float16. */
  async read(name: string): Promise<Float32Array> {
    const parameter = this.#table.find(name);
    const out = new Float32Array(numel(parameter.spec.shape));
    const label = `reading ${name}`;
    const max = parameter.plain ? MAX_COPIED : MAX_STAGED;
    const made = this.#context.attempt(label, () =>
      this.#context.createBuffer(label, Math.min(max, out.length) * 4, USAGE.mapRead | USAGE.copyTarget),
    );
    const target = made.result;
    try {
      await made.checked;
      for (let from = 0; from < out.length; from += max) {
        const count = Math.min(max, out.length - from);
        await this.#readPiece(parameter, from, count, target, label);
        await this.#context.wait(target.mapAsync(USAGE.mapModeRead, 0, count * 4), label);
        out.set(new Float32Array(target.getMappedRange(0, count * 4)), from);
        target.unmap();
      }
    } finally {
      this.#context.destroyBuffer(target);
    }
    return out;
  }

  /** Several vectors by one read-back. */
  async readVectors(names: readonly string[]): Promise<Map<string, Float32Array>> {
    const label = 'reading running statistics';
    const sizes = names.map((name) => numel(this.#table.find(name).spec.shape));
    const starts = sizes.map((_, i) => sizes.slice(0, i).reduce((sum, size) => sum + size, 0));
    const total = sizes.reduce((sum, size) => sum + size, 0);
    const { result: target, checked } = this.#context.attempt(label, () =>
      this.#context.createBuffer(label, total * 4, USAGE.mapRead | USAGE.copyTarget),
    );
    try {
      await checked;
      await this.#context.submit(label, (encoder) => {
        for (const [i, name] of names.entries()) {
          const { buffer } = this.#table.find(name).views[0] as BufferView;
          encoder.copyBufferToBuffer(buffer, 0, target, (starts[i] as number) * 4, (sizes[i] as number) * 4);
        }
      });
      await this.#context.wait(target.mapAsync(USAGE.mapModeRead), label);
      const all = new Float32Array(target.getMappedRange()).slice();
      return new Map(
        names.map((name, i) => {
          const start = starts[i] as number;
          return [name, all.slice(start, start + (sizes[i] as number))];
        }),
      );
    } finally {
      this.#context.destroyBuffer(target);
    }
  }

  async #readPiece(parameter: Parameter, from: number, count: number, target: GPUBuffer, label: string): Promise<void> {
    const { layout, views, plain } = parameter;
    if (!plain) {
      const values = { buffer: this.#stage, offset: 0, size: count * 4 };
      const dispatches = unpackPiece(layout, { offset: from, count, values }, views);
      await this.#dispatch(label, dispatches, (encoder) =>
        encoder.copyBufferToBuffer(this.#stage, 0, target, 0, count * 4),
      );
      return;
    }
    await this.#context.submit(label, (encoder) => {
      for (const { view, start, end, first } of overlaps(layout, views, from, count)) {
        encoder.copyBufferToBuffer(view.buffer, (start - first) * 4, target, (start - from) * 4, (end - start) * 4);
      }
    });
  }

  destroy(): void {
    for (const buffer of this.#buffers) this.#context.destroyBuffer(buffer);
  }
}

/** The part of a run of values in each shard: values `start` up to `end`, in a shard that begins with value `first`. */
function* overlaps(
  { shards, columns }: PackedLayout,
  views: readonly BufferView[],
  offset: number,
  count: number,
): Generator<{ view: BufferView; start: number; end: number; first: number }> {
  for (const [i, { from, to }] of shards.entries()) {
    const start = Math.max(offset, from * columns);
    const end = Math.min(offset + count, to * columns);
    if (start < end) yield { view: views[i] as BufferView, start, end, first: from * columns };
  }
}
