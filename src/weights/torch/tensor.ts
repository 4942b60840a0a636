import { extentOf, type Layout, type Storage } from '../bytes/view.js';
import { quoteName } from '../safetensors/header.js';
import { PickleCallError, type PickleObject, PickleTuple, type PickleValue } from './values.js';

/** A dtype of PyTorch's: safetensors' name for it, and the bytes of an element. */
export interface TorchDtype {
  readonly dtype: string;
  readonly width: number;
}

/** What a pickle says of a storage, whose bytes are elsewhere. */
export interface TorchStorage extends Storage, PickleObject {
  /** The name of its bytes in the file. */
  readonly key: string;
  /** Undefined for one of bytes alone. */
  readonly type: TorchDtype | undefined;
}

export function createStorage(key: string, byteLength: number, type: TorchDtype | undefined): TorchStorage {
  return { key, byteLength, type, label: `storage ${quoteName(key)}`, setState: () => false };
}

/** A part of a storage that files of 2017 call a storage of its own. */
export class StorageView implements PickleObject {
  readonly root: TorchStorage;
  /** In elements. */
  readonly start: number;
  readonly length: number;

  constructor(root: TorchStorage, start: number, length: number) {
    this.root = root;
    this.start = start;
    this.length = length;
  }

  setState(): boolean {
    return false;
  }
}

/** A tensor as a pickle makes it. */
export class TorchTensor implements PickleObject {
  shape: readonly number[] = [0];
  dtype = '';
  layout: Layout | undefined;

  /** As files of 2017 fill a tensor, and as a Parameter of then takes its flags. */
  setState(state: PickleValue): boolean {
    if (this.layout) return true;
    return state instanceof PickleTuple && this.place(state.items);
  }

  /**
   * Makes it a view of a storage.
   * @param args storage, offset of the first element, sizes, strides
   * @param type where the storage has none
   */
  place(args: readonly PickleValue[], type?: TorchDtype): boolean {
    const [from, offset, size, stride] = args;
    const view = storageView(from);
    const shape = sizesOf(size);
    const strides = sizesOf(stride);
    if (!view || !shape || !strides || shape.length !== strides.length || !isSize(offset)) return false;
    const { root, start, length } = view;
    const element = type ?? root.type;
    if (!element) return false;
    const { dtype, width } = element;
    this.shape = shape;
    this.dtype = dtype;
    this.layout = { storage: root, byteOffset: (start + offset) * width, width, dims: shape, strides };
    this.checkExtent((start + length) * (root.type?.width ?? 1));
    return true;
  }

  private checkExtent(end: number): void {
    const layout = this.layout as Layout;
    const extent = extentOf(layout);
    if (!(extent.end <= end))
      throw new PickleCallError(`a view that ends at byte ${extent.end}, past its storage, at ${end}`);
    const values = layout.dims.reduce((product, size) => product * size, 1);
    if (values > Math.max(end / layout.width, MAX_REPEATED)) {
      throw new PickleCallError(`a view of ${values} values, over and over those of a storage of ${end} bytes`);
    }
  }
}

/** So many values may be made of fewer, as `expand` does. */
const MAX_REPEATED = 2 ** 16;
/** As many as PyTorch has. */
const MAX_DIMENSIONS = 64;

function storageView(value: PickleValue | undefined): StorageView | undefined {
  if (value instanceof StorageView) return value;
  if (!isStorage(value)) return undefined;
  return new StorageView(value, 0, value.byteLength / (value.type?.width ?? 1));
}

function isStorage(value: PickleValue | undefined): value is TorchStorage {
  return typeof value === 'object' && value !== null && 'byteLength' in value && 'key' in value;
}

export function isSize(value: PickleValue | undefined): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function sizesOf(value: PickleValue | undefined): readonly number[] | undefined {
  if (!(value instanceof PickleTuple) || value.items.length > MAX_DIMENSIONS) return undefined;
  return value.items.every(isSize) ? (value.items as number[]) : undefined;
}
