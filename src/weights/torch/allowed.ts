import { quoteName } from '../safetensors/header.js';
import { createStorage, isSize, StorageView, type TorchDtype, type TorchStorage, TorchTensor } from './tensor.js';
import {
  isGlobal,
  PickleCallError,
  type PickleContext,
  PickleDict,
  type PickleGlobal,
  PickleList,
  PickleOpaque,
  PickleTuple,
  type PickleValue,
  type Spend,
} from './values.js';

/* What a checkpoint's pickle may name that has a meaning here: all that tensors and dicts are made of. */

/** Bytes alone, of any dtype. */
interface StorageType extends PickleGlobal {
  readonly storage: TorchDtype | 'untyped';
}
interface DtypeGlobal extends PickleGlobal {
  readonly dtype: TorchDtype;
}

const DTYPES: readonly (readonly [storage: string, name: string, dtype: string, width: number])[] = [
  ['Float', 'float32', 'F32', 4],
  ['Half', 'float16', 'F16', 2],
  ['BFloat16', 'bfloat16', 'BF16', 2],
  ['Double', 'float64', 'F64', 8],
  ['Long', 'int64', 'I64', 8],
  ['Int', 'int32', 'I32', 4],
  ['Short', 'int16', 'I16', 2],
  ['Char', 'int8', 'I8', 1],
  ['Byte', 'uint8', 'U8', 1],
  ['Bool', 'bool', 'BOOL', 1],
  ['ComplexFloat', 'complex64', 'C64', 8],
];

/** Dtypes that have no storage of their own. */
const MORE_DTYPES: Readonly<Record<string, TorchDtype>> = {
  uint16: { dtype: 'U16', width: 2 },
  uint32: { dtype: 'U32', width: 4 },
  uint64: { dtype: 'U64', width: 8 },
  float8_e4m3fn: { dtype: 'F8_E4M3', width: 1 },
  float8_e5m2: { dtype: 'F8_E5M2', width: 1 },
  float8_e4m3fnuz: { dtype: 'F8_E4M3FNUZ', width: 1 },
  float8_e5m2fnuz: { dtype: 'F8_E5M2FNUZ', width: 1 },
  float8_e8m0fnu: { dtype: 'F8_E8M0', width: 1 },
};

/** Other names of PyTorch's dtypes. */
const DTYPE_ALIASES: Readonly<Record<string, string>> = {
  float: 'float32',
  half: 'float16',
  double: 'float64',
  long: 'int64',
  int: 'int32',
  short: 'int16',
};

const GLOBALS: ReadonlyMap<string, PickleGlobal> = createGlobals();

function createGlobals(): Map<string, PickleGlobal> {
  const all = new Map<string, PickleGlobal>();
  const add = (name: string, more: object = {}): void => {
    all.set(name, { name, ...more } as PickleGlobal);
  };
  for (const [prefix, name, dtype, width] of DTYPES) {
    const type: TorchDtype = { dtype, width };
    for (const module of ['torch', 'torch.cuda']) {
      add(`${module}.${prefix}Storage`, { storage: type });
      add(`${module}.${prefix}Tensor`, { call: newTensor, makesTensor: true });
    }
    add(`torch.${name}`, { dtype: type });
  }
  for (const [alias, name] of Object.entries(DTYPE_ALIASES)) {
    add(`torch.${alias}`, { dtype: (all.get(`torch.${name}`) as DtypeGlobal).dtype });
  }
  for (const [name, dtype] of Object.entries(MORE_DTYPES)) add(`torch.${name}`, { dtype });
  for (const name of ['torch.storage.UntypedStorage', 'torch.storage._UntypedStorage', 'torch.UntypedStorage']) {
    add(name, { storage: 'untyped' });
  }
  add('collections.OrderedDict', { call: newDict });
  add('collections.Counter', { call: newCounter });
  add('collections.defaultdict', { call: () => new PickleDict() });
  add('torch.Size', { call: newSize });
  add('torch.Tensor');
  add('torch._utils._rebuild_tensor', { call: rebuildTensor, makesTensor: true });
  add('torch._utils._rebuild_tensor_v2', { call: rebuildTensor, makesTensor: true });
  add('torch._utils._rebuild_tensor_v3', { call: rebuildTensor3, makesTensor: true });
  add('torch._utils._rebuild_parameter', { call: rebuildParameter, makesTensor: true });
  add('torch._utils._rebuild_parameter_with_state', { call: rebuildParameter, makesTensor: true });
  add('torch.nn.parameter.Parameter', { call: rebuildParameter, makesTensor: true });
  add('torch._tensor._rebuild_from_type_v2', { call: rebuildFromType, makesTensor: true });
  return all;
}

/** An ordered dict, which Python 2 gives its pairs. */
function newDict(args: readonly PickleValue[], spend: Spend): PickleDict | undefined {
  const dict = new PickleDict();
  const [pairs] = args;
  if (args.length > 1) return undefined;
  if (pairs === undefined) return dict;
  if (!(pairs instanceof PickleList)) return undefined;
  spend(4 * pairs.items.length);
  for (const pair of pairs.items) {
    if (!(pair instanceof PickleList || pair instanceof PickleTuple) || pair.items.length !== 2) return undefined;
    const [key, value] = pair.items as [PickleValue, PickleValue];
    if (dict.entries.has(key)) throw new PickleCallError(`the key ${quoteName(String(key))} comes twice`);
    dict.entries.set(key, value);
  }
  return dict;
}

/** A dict of numbers, which it copies. */
function newCounter(args: readonly PickleValue[], spend: Spend): PickleDict | undefined {
  const [counts] = args;
  const dict = new PickleDict();
  if (!(counts instanceof PickleDict)) return args.length === 0 ? dict : undefined;
  spend(4 * counts.entries.size);
  for (const [key, value] of counts.entries) dict.entries.set(key, value);
  return dict;
}

/** torch.Size is a tuple. One that is made of a tuple, which cannot change, is that tuple. */
function newSize(args: readonly PickleValue[], spend: Spend): PickleTuple | undefined {
  const [items] = args;
  if (args.length !== 1) return undefined;
  if (items instanceof PickleTuple) return items;
  if (!(items instanceof PickleList)) return undefined;
  spend(items.items.length);
  return new PickleTuple([...items.items]);
}

/** A tensor, its shape, strides and layout. */
const TENSOR_VALUES = 32;

function newTensor(args: readonly PickleValue[], spend: Spend): TorchTensor | undefined {
  spend(TENSOR_VALUES);
  return args.length === 0 ? new TorchTensor() : undefined;
}

/** A tensor that is a view of a storage; undefined if the arguments are not right. */
function viewTensor(args: readonly PickleValue[], spend: Spend, type?: TorchDtype): TorchTensor | undefined {
  spend(TENSOR_VALUES);
  const tensor = new TorchTensor();
  return tensor.place(args, type) ? tensor : undefined;
}

/** (storage, offset, size, stride), and from version 2 (requires_grad, backward_hooks[, metadata]). */
function rebuildTensor(args: readonly PickleValue[], spend: Spend): TorchTensor | undefined {
  if (args.length < 4 || args.length > 7) return undefined;
  checkMetadata(args[6]);
  return viewTensor(args, spend);
}

/** (storage, offset, size, stride, requires_grad, backward_hooks, dtype[, metadata]), for a storage of bytes. */
function rebuildTensor3(args: readonly PickleValue[], spend: Spend): TorchTensor | undefined {
  const dtype = args[6];
  if (args.length < 7 || args.length > 8 || !isDtype(dtype)) return undefined;
  checkMetadata(args[7]);
  return viewTensor(args, spend, dtype.dtype);
}

/** Flags that say that the values are to be negated or conjugated. */
function checkMetadata(metadata: PickleValue | undefined): void {
  if (metadata === undefined || metadata === null) return;
  if (metadata instanceof PickleDict && metadata.entries.size === 0) return;
  throw new PickleCallError('a tensor with flags, such as one that is negated when it is read');
}

/** (data[, requires_grad[, backward_hooks[, state]]]) */
function rebuildParameter(args: readonly PickleValue[]): TorchTensor | undefined {
  const [data] = args;
  return data instanceof TorchTensor && args.length <= 4 ? data : undefined;
}

/** (function, class, its arguments, attributes): a tensor or parameter that has attributes. */
function rebuildFromType(args: readonly PickleValue[], spend: Spend): PickleValue | undefined {
  const [rebuild, type, inner] = args;
  if (args.length !== 4 || !isGlobal(rebuild) || !isGlobal(type) || !(inner instanceof PickleTuple)) return undefined;
  if (!rebuild.name.startsWith('torch._utils._rebuild_')) return undefined;
  if (type.name !== 'torch.Tensor' && type.name !== 'torch.nn.parameter.Parameter') return undefined;
  return rebuild.call?.(inner.items, spend);
}

function isStorageType(value: PickleValue | undefined): value is StorageType {
  return isGlobal(value) && 'storage' in value;
}

function isDtype(value: PickleValue | undefined): value is DtypeGlobal {
  return isGlobal(value) && 'dtype' in value;
}

/** Reads a checkpoint's pickle, and notes its storages. */
export class TorchContext implements PickleContext {
  /** By key. */
  readonly storages: Map<string, TorchStorage> = new Map();

  findGlobal(name: string): PickleGlobal | undefined {
    return GLOBALS.get(name);
  }

  /**
   * ('storage', type, key, location, number of elements), and in the legacy format what part of it is meant. There
   * also ('module', class, file, source): a class whose source was saved.
   */
  load(id: PickleValue): PickleValue | undefined {
    if (!(id instanceof PickleTuple)) return undefined;
    const [kind, type, key, , count, part] = id.items;
    if (kind === 'module' && type instanceof PickleOpaque) return type;
    if (id.items.length < 5 || id.items.length > 6) return undefined;
    if (kind === 'storage' && type instanceof PickleOpaque) return type;
    if (kind !== 'storage' || !isStorageType(type) || typeof key !== 'string' || !isSize(count)) return undefined;
    const element = type.storage === 'untyped' ? undefined : type.storage;
    const byteLength = count * (element?.width ?? 1);
    if (!Number.isSafeInteger(byteLength)) return undefined;
    const storage = this.storages.get(key) ?? createStorage(key, byteLength, element);
    if (storage.byteLength !== byteLength || storage.type?.dtype !== element?.dtype) return undefined;
    this.storages.set(key, storage);
    if (part === undefined || part === null) return storage;
    return viewOf(storage, part, count);
  }
}

/** (key of the view, first element, number of elements) */
function viewOf(storage: TorchStorage, part: PickleValue, count: number): StorageView | undefined {
  if (!(part instanceof PickleTuple)) return undefined;
  const [, start, length] = part.items;
  if (!isSize(start) || !isSize(length) || start + length > count) return undefined;
  return new StorageView(storage, start, length);
}

/** Allows nothing but plain values. */
export const PLAIN: PickleContext = { findGlobal: () => undefined, load: () => undefined };
