import { VGGNetError } from '../errors.js';
import { nearest } from '../nearest.js';
import type { Layer } from './layers.js';

/** A name for the last linear layer, whatever it is called: its outputs are the logits. */
export const LOGITS = 'logits';

/**
 * The layer that goes by a name: a paper's (`conv3_2`, `relu3_3`, `pool5`, `fc7`, `prob`), torchvision's module path
 * (`features.12`, `classifier.3`), the lesson's (`conv_layers.12`, `fcs.3`), or `logits`.
 * @throws VGGNetError `UNKNOWN_LAYER` with the nearest names
 */
export function layerNamed(layers: readonly Layer[], name: string): Layer {
  const path = modulePath(name);
  const found =
    name === LOGITS
      ? layers.findLast(({ op }) => op === 'linear')
      : layers.find((layer) => layer.name === name || (layer.path !== '' && layer.path === path));
  if (found) return found;
  throw unknownLayer(layers, name);
}

/**
 * The index of the layer with exactly this `name`.
 * @throws VGGNetError `UNKNOWN_LAYER` with the nearest names
 */
export function layerIndex(layers: readonly Layer[], name: string): number {
  const index = layers.findIndex((layer) => layer.name === name);
  if (index >= 0) return index;
  throw unknownLayer(layers, name);
}

function unknownLayer(layers: readonly Layer[], name: string): VGGNetError {
  const last = layers.at(-1)?.name;
  if ((name === LOGITS || name === 'prob') && !layers.some(({ op }) => op === 'linear')) {
    return new VGGNetError(
      'UNKNOWN_LAYER',
      `This model cannot classify: its weights have no classifier, and its last layer is ${last}. ` +
        'Ask for its layers by features()',
    );
  }
  const known = layers.flatMap((layer) => (layer.path === '' ? [layer.name] : [layer.name, layer.path]));
  return new VGGNetError(
    'UNKNOWN_LAYER',
    `This network has no layer '${name}'; nearest: ${nearest(String(name), known).join(', ')}`,
  );
}

/** torchvision's path for one of the lesson's. */
function modulePath(name: string): string {
  return String(name)
    .replace(/^conv_layers\./, 'features.')
    .replace(/^fcs\./, 'classifier.');
}
