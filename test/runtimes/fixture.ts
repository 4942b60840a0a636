import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import sharp from 'sharp';
import { parametersOf } from '../../src/program/layers.js';
import type { Tensor } from '../../src/tensor.js';
import { saveSafetensors } from '../../src/weights/write.js';
import { type GeneratedKind, generatedTensor } from '../support/generated.js';
import { type GoldenCase, type GoldenNetwork, layersOf, readGolden } from '../support/golden.js';
import { ROOT } from '../support/project.js';
import type { Fixture } from './smoke.js';

interface GoldenGlyphs {
  readonly images: readonly { readonly file: string; readonly label: string }[];
}

/** What PyTorch's networks gave. */
export const GOLDEN: readonly GoldenCase[] = readGolden<GoldenCase>('small').filter(
  ({ name, mode }) => mode === undefined && ['one-channel', 'odd-channels', 'glyph-like'].includes(name ?? ''),
);

/** Large enough that several threads have their share of every layer, and for Winograd's method; for the hash only. */
const WIDE: GoldenNetwork = {
  name: 'wide',
  architecture: [16, 'M', 64, 64, 'M', 128, 'M'],
  options: { numClasses: 40, batchNorm: true, hiddenFeatures: 96, poolSize: 3 },
  shape: [2, 3, 64, 64],
};

/** Names and labels of the sample images. */
export function sampleImages(): { readonly name: string; readonly label: string }[] {
  const glyphs = readGolden('glyphs') as unknown as GoldenGlyphs;
  return glyphs.images.map(({ file, label }) => ({ name: basename(file, '.png'), label }));
}

/** Writes the files that the smoke test reads, and gives their names. */
export async function writeFixture(folder: string): Promise<string[]> {
  await mkdir(folder, { recursive: true });
  const names: string[] = [];
  const write = async (name: string, data: Uint8Array | string): Promise<void> => {
    await writeFile(join(folder, name), data);
    names.push(name);
  };
  const images: Fixture['images'][number][] = [];
  for (const { name } of sampleImages()) {
    const file = join(ROOT, 'examples/images', `${name}.png`);
    const pixels = sharp(file).toColourspace('srgb').ensureAlpha().raw();
    const { data, info } = await pixels.toBuffer({ resolveWithObject: true });
    await write(`${name}.rgba`, data);
    await copyFile(file, join(folder, `${name}.png`));
    names.push(`${name}.png`);
    images.push({ name, width: info.width, height: info.height });
  }
  const networks: Fixture['networks'][number][] = [];
  for (const golden of [...GOLDEN, WIDE]) {
    const { name = '', architecture = [], options = {}, shape } = golden;
    await write(`${name}.safetensors`, saveSafetensors(generatedState(golden)));
    await write(`${name}.f32`, new Uint8Array(generatedTensor('input', shape, 'input').data.buffer));
    networks.push({ name, architecture, options, shape });
  }
  await copyFile(join(ROOT, 'models/glyphs.safetensors'), join(folder, 'glyphs.safetensors'));
  await write('index.json', JSON.stringify({ images, networks } satisfies Fixture));
  return [...names, 'glyphs.safetensors'];
}

/** The tests' own weights (generated.ts), by name. */
function generatedState(golden: GoldenNetwork): Map<string, Tensor> {
  const state = new Map<string, Tensor>();
  for (const layer of layersOf(golden)) {
    for (const { name, shape } of parametersOf(layer)) {
      const key = name.slice(layer.path.length + 1);
      const kind = (layer.op === 'batchNorm2d' ? `norm.${key}` : key) as GeneratedKind;
      state.set(name, generatedTensor(name, shape, kind));
    }
  }
  return state;
}
