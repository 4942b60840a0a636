import type { ByteCursor } from '../bytes/cursor.js';
import type { ViewEntry } from '../bytes/view.js';
import { quoteName } from '../safetensors/header.js';
import { TorchTensor } from './tensor.js';
import { kindOfPickle, PickleDict, type PickleValue } from './unpickle.js';

/** Keys under which a checkpoint keeps its model, in the order in which they are tried. */
const NESTED = ['state_dict', 'model_state_dict', 'model'];
/** A checkpoint in a checkpoint in a checkpoint. */
const MAX_NESTED = 4;

/**
 * The tensors of a checkpoint by name: those of a dict, or of the `state_dict`, `model_state_dict` or `model` in it.
 * Values beside them that are no tensors are passed over.
 * @throws VGGNetError `INVALID_WEIGHTS_FILE` if there is no such dict
 */
export function stateDictOf(root: PickleValue, cursor: ByteCursor): ViewEntry[] {
  let dict = root;
  for (let depth = 0; dict instanceof PickleDict && depth < MAX_NESTED; depth++) {
    const { entries }: PickleDict = dict;
    const inner = NESTED.map((key) => entries.get(key)).find((value) => value instanceof PickleDict);
    if (!inner) break;
    dict = inner;
  }
  if (!(dict instanceof PickleDict)) {
    cursor.fail(
      `expected a dict of tensors, or one with ${NESTED.map(quoteName).join(', ')}, got ${kindOfPickle(root)}`,
    );
  }
  const found: ViewEntry[] = [];
  for (const [name, value] of (dict as PickleDict).entries) {
    if (typeof name !== 'string' || !(value instanceof TorchTensor)) continue;
    if (name === '__proto__') cursor.fail(`tensor ${quoteName(name)} has a name that is not allowed`);
    const { shape, dtype, layout } = value;
    if (!layout) cursor.fail(`tensor ${quoteName(name)} has no storage`);
    found.push({ name, shape, dtype, layout });
  }
  if (found.length === 0) cursor.fail('expected a dict of tensors, got one without any');
  return found;
}
