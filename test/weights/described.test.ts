import { VGGNet } from 'vggnet';
import { expect, test } from 'vitest';
import { IMAGENET_PRESET, type ImagePreset } from '../../src/image/preset.js';
import { resolveConfig } from '../../src/model/config.js';
import { checkDescribed } from '../../src/model/described.js';
import { MODEL_NAMES } from '../../src/vgg.js';
import { bytesOf, createSmall } from '../support/small.js';
import { rawFile } from './rawfile.js';

/* A file says how large its network's images are: a few bytes of it may ask for gigabytes. */

const ofSide = (side: number): ImagePreset => ({ ...IMAGENET_PRESET, resize: side, crop: side });
const REFUSED = {
  code: 'OUT_OF_MEMORY',
  message: expect.stringMatching(/inputs of 3×8192×8192, for which a layer needs \d+ MiB, over 256\. .* memoryLimit/),
};

test('every VGG is allowed, with images of twice the side too', () => {
  for (const name of MODEL_NAMES) {
    const config = resolveConfig(name, {});
    checkDescribed(config, undefined);
    checkDescribed({ ...config, preset: ofSide(448) }, undefined);
  }
});

test('images that need far more are refused, unless the caller gives a limit', () => {
  const config = { ...resolveConfig([64, 'M'], {}), preset: ofSide(8192) };
  expect(() => checkDescribed(config, undefined)).toThrow(expect.objectContaining(REFUSED));
  checkDescribed(config, 2 ** 40);
});

test('load refuses such a file', async () => {
  const model = await createSmall();
  const bytes = await bytesOf(model.save());
  model.dispose();
  const dataStart = 8 + new DataView(bytes.buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, dataStart)));
  const described = JSON.parse(header.__metadata__.vggnet);
  const withSide = (side: number): Uint8Array<ArrayBuffer> => {
    header.__metadata__.vggnet = JSON.stringify({ ...described, preset: ofSide(side) });
    return rawFile(header, bytes.subarray(dataStart));
  };
  await expect(VGGNet.load(withSide(8192))).rejects.toMatchObject(REFUSED);
  (await VGGNet.load(withSide(32))).dispose();
});
