import type { ByteCursor } from '../bytes/cursor.js';
import type { ViewEntry } from '../bytes/view.js';
import { quoteName } from '../safetensors/header.js';
import { TorchTensor } from './tensor.js';
import { kindOfPickle, PickleDict, PickleOpaque, type PickleValue } from './values.js';

/* Finds the state dict in what a checkpoint's pickle holds, and says what to save where there is none. */

export interface TorchOptions {
  /** The dict of tensors to take, where a checkpoint has several: `'ema'`, or `'model.ema'` for one in another. */
  readonly key?: string | undefined;
  /** Compare the checksums of all bytes, and not of the pickle alone. */
  readonly verify?: boolean | undefined;
}

/** A checkpoint in a checkpoint in a checkpoint. */
const MAX_NESTED = 4;
/** More than any network and its optimizer have. */
const MAX_TENSORS = 2 ** 16;
/** Dicts that are looked into. */
const MAX_DICTS = 2 ** 12;
/** Names that a message lists. */
const MAX_LISTED = 8;

const SAVE = 'torch.save(model.state_dict(), "weights.pth")';

/**
 * The tensors of a checkpoint by name: those of its dict of tensors, under whatever key that is. Values beside them
 * that are no tensors are passed over.
 * @param key of the dict to take, with dots between the keys that lead there, where there are several
 * @throws VGGNetError `INVALID_WEIGHTS_FILE` if there is no such dict, several, or one of a kind that is not read;
 * the message has the line of Python that saves the weights right
 */
export function stateDictOf(root: PickleValue, cursor: ByteCursor, key?: string): ViewEntry[] {
  if (!(root instanceof PickleDict)) return refuseRoot(root, cursor);
  return entriesOf(findDict(root, cursor, key), cursor);
}

/** A dict that has tensors. */
interface Candidate {
  readonly path: string;
  readonly depth: number;
  readonly dict: PickleDict;
  readonly tensors: number;
}

/** The one dict of tensors that lies least deep. */
function findDict(root: PickleDict, cursor: ByteCursor, key: string | undefined): PickleDict {
  const all = candidatesOf(root);
  if (key !== undefined) {
    const found = all.find(({ path }) => path === key);
    return found?.dict ?? cursor.fail(`no dict of tensors is called ${quoteName(key)}; there is ${describe(all)}`);
  }
  // Single numbers may be tensors too, such as a best score.
  const withWeights = all.filter(({ dict }) => hasWeights(dict));
  const likely = withWeights.length > 0 ? withWeights : all;
  const [only, ...others] = likely.filter(({ depth }) => depth === likely[0]?.depth);
  if (only && others.length > 0) {
    cursor.fail(`there are several dicts of tensors, ${describe([only, ...others])}: choose one by the option key`);
  }
  return only?.dict ?? root;
}

/** Those in dicts, and in dicts in these, least deep first. */
function candidatesOf(root: PickleDict): Candidate[] {
  const found: Candidate[] = [];
  const seen = new Set<PickleDict>([root]);
  let here = [{ path: '', dict: root }];
  for (let depth = 0; depth < MAX_NESTED; depth++) {
    const inner: typeof here = [];
    for (const { path, dict } of here) {
      let tensors = 0;
      for (const [key, value] of dict.entries) {
        if (value instanceof TorchTensor) tensors++;
        if (typeof key !== 'string' || !(value instanceof PickleDict) || seen.has(value)) continue;
        if (seen.size === MAX_DICTS) continue;
        seen.add(value);
        inner.push({ path: path === '' ? key : `${path}.${key}`, dict: value });
      }
      if (tensors > 0) found.push({ path, depth, dict, tensors });
    }
    here = inner;
  }
  return found;
}

/** Whether a tensor of it has two dimensions or more. */
function hasWeights(dict: PickleDict): boolean {
  for (const value of dict.entries.values()) if (value instanceof TorchTensor && value.shape.length > 1) return true;
  return false;
}

function describe(dicts: readonly Candidate[]): string {
  const shown = dicts.slice(0, MAX_LISTED).map(({ path, tensors }) => {
    return `${path === '' ? 'the outermost' : quoteName(path)} (${tensors} ${tensors === 1 ? 'tensor' : 'tensors'})`;
  });
  const more = dicts.length - shown.length;
  return `${shown.join(', ')}${more > 0 ? ` and ${more} more` : ''}` || 'none';
}

function entriesOf(dict: PickleDict, cursor: ByteCursor): ViewEntry[] {
  const found: ViewEntry[] = [];
  let opaque: PickleOpaque | undefined;
  for (const [name, value] of dict.entries) {
    if (typeof name !== 'string') continue;
    refuseParametrized(name, cursor);
    if (value instanceof PickleOpaque) {
      opaque ??= value;
      refuseTensor(name, value, cursor);
    }
    if (!(value instanceof TorchTensor)) continue;
    if (name === '__proto__') cursor.fail(`tensor ${quoteName(name)} has a name that is not allowed`);
    const { shape, dtype, layout } = value;
    if (!layout) cursor.fail(`tensor ${quoteName(name)} has no storage`);
    if (found.length === MAX_TENSORS) cursor.fail(`over ${MAX_TENSORS} tensors`);
    found.push({ name, shape, dtype, layout });
  }
  if (found.length > 0) return found;
  if (opaque?.name.startsWith('numpy.')) {
    cursor.fail('the dict has NumPy arrays, and no tensors; save them by numpy.savez("weights.npz", **arrays)');
  }
  return cursor.fail(`expected a dict of tensors, got one without any; save the weights by ${SAVE}`);
}

/** Kinds of tensors that are not read, by the function that makes them, and what turns them into ones that are. */
const TENSOR_KINDS: readonly (readonly [name: RegExp, advice: string])[] = [
  [/_rebuild_sparse/, 'is sparse; save it after state_dict[name] = state_dict[name].to_dense()'],
  [/_rebuild_qtensor/, `is quantized; save the state dict of the model as it was before it was quantized: ${SAVE}`],
  [/_rebuild_nested/, 'is a nested tensor; save it after .to_padded_tensor(0)'],
  [/_rebuild_meta/, 'is on the meta device and has no values'],
];

const REBUILD = /^torch\.(?:_utils\._rebuild_|_tensor\._rebuild_)/;

/** Refuses a tensor that is of a kind that is not known, or was made of something that is not. */
function refuseTensor(name: string, { name: maker, tensorOf }: PickleOpaque, cursor: ByteCursor): void {
  if (tensorOf === undefined && !REBUILD.test(maker)) return;
  const of = tensorOf ?? maker;
  const advice =
    TENSOR_KINDS.find(([pattern]) => pattern.test(of))?.[1] ??
    `depends on ${quoteName(of)}, which is not read; save it as a plain tensor: state_dict[name] = state_dict[name].detach().clone()`;
  cursor.fail(`tensor ${quoteName(name)} ${advice}`);
}

const PACKED = /(?:^|\.)_packed_params(?:\.|$)/;
const WEIGHT_NORM = /\.(?:weight_g|weight_v|parametrizations\.[^.]+\.original\d*)$/;

/** Refuses names that say that a weight is worked out of other tensors. */
function refuseParametrized(name: string, cursor: ByteCursor): void {
  if (PACKED.test(name)) {
    cursor.fail(`${quoteName(name)} is of a quantized layer; save the model as it was before: ${SAVE}`);
  }
  if (WEIGHT_NORM.test(name)) {
    cursor.fail(
      `${quoteName(name)} is a part of a parametrized weight; before saving call torch.nn.utils.remove_weight_norm(layer), or torch.nn.utils.parametrize.remove_parametrizations(layer, "weight")`,
    );
  }
}

function refuseRoot(root: PickleValue, cursor: ByteCursor): never {
  if (!(root instanceof PickleOpaque)) {
    return cursor.fail(`expected a dict of tensors, got ${kindOfPickle(root)}; save the weights by ${SAVE}`);
  }
  if (root.name.startsWith('numpy.')) {
    cursor.fail('this is a pickled NumPy array; save arrays by numpy.savez("weights.npz", **arrays)');
  }
  return cursor.fail(
    `expected a dict of tensors, got an object of the class ${quoteName(root.name)}, as of a whole model; save its weights by ${SAVE}`,
  );
}
