import { VGGNetError } from '../errors.js';
import { nearest } from '../nearest.js';
import type { Layer } from './layers.js';

/**
 * The layer that goes by a name: a paper's (`conv3_2`, `relu3_3`, `pool5`, `fc7`), torchvision's module path
 * (`features.12`, `classifier.3`) or the lesson's (`conv_layers.12`, `fcs.3`). `logits` is the last linear layer.
 * @throws VGGNetError `UNKNOWN_LAYER` with the nearest names
 */
export function layerNamed(layers: readonly Layer[], name: string): Layer {
  const path = modulePath(name);
  const found =
    (name === 'logits' && layers.findLast((layer) => layer.op === 'linear')) ||
    layers.find((layer) => layer.name === name || (layer.path !== '' && layer.path === path));
  if (found) return found;
  const known = layers.flatMap((layer) => (layer.path === '' ? [layer.name] : [layer.name, layer.path]));
  throw new VGGNetError(
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
