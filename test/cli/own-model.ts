import { type ImagePreset, saveFile, VGGNet } from '../../src/index.js';

/** A label that would steer a terminal. */
export const HOSTILE_LABEL = '\u001b[31mred';

export const OWN_LABELS: readonly string[] = [HOSTILE_LABEL, 'green', 'blue'];

const PRESET: ImagePreset = { mode: 'L', resize: 16, crop: 16, scale: 1 / 255, mean: [0.5], std: [0.25] };

/** A tiny network with labels and a preset of its own, on the reference backend. */
export function createOwnModel(): Promise<VGGNet> {
  return VGGNet.create([4, 'M', 6], {
    inChannels: 1,
    numClasses: 3,
    hiddenFeatures: 8,
    poolSize: 2,
    seed: 5,
    labels: OWN_LABELS,
    preset: PRESET,
    device: 'reference',
  });
}

/** Writes it as a file that describes itself. */
export async function saveOwnModel(path: string): Promise<void> {
  const model = await createOwnModel();
  await saveFile(path, model.save());
  model.dispose();
}
