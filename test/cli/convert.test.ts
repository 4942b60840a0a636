import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VGGNet } from 'vggnet';
import { afterAll, describe, expect, test } from 'vitest';
import type { ConvertReport } from '../../src/cli/convert.js';
import { repositoryFile, vggnet } from './run.js';

const folder = mkdtempSync(join(tmpdir(), 'vggnet-convert-'));
const output = join(folder, 'small.safetensors');
afterAll(() => rmSync(folder, { recursive: true }));

const images = join(folder, 'images');
mkdirSync(images);
for (const letter of ['W', 'A', 'E']) {
  cpSync(repositoryFile(`examples/images/glyph-${letter}.png`), join(images, `${letter}.png`));
}
writeFileSync(join(images, 'notes.txt'), 'no image');

describe('vggnet convert', () => {
  test('writes a smaller file that reads as well, and reports how far it is from float32', async () => {
    const { code, stdout, stderr } = await vggnet([
      ...['convert', 'glyphs', output, '--precision', 'int8,fc=int4,fc8=fp16', '--calibrate', images, '--json'],
    ]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const report = JSON.parse(stdout) as ConvertReport;
    expect(report.bytes.file).toBe(statSync(output).size);
    expect(report.bytes.file).toBeLessThan(0.3 * report.bytes.fp32);
    expect(report.inputs.count).toBeGreaterThan(0);
    expect(report.sameTop1).toBe(report.inputs.count);
    expect(report.logits.cosine).toBeGreaterThan(0.99);
    expect(report.logits.maxError).toBeLessThan(0.2 * report.logits.largest);
    expect(report.layers.map(({ name, precision }) => `${name} ${precision}`)).toEqual([
      ...['conv1_1', 'conv2_1', 'conv2_2', 'conv3_1', 'conv3_2', 'conv4_1'].map((name) => `${name} int8`),
      ...['fc6 int4', 'fc7 int4', 'fc8 fp16'],
    ]);
    for (const { error } of report.layers) expect(error).toBeLessThan(0.2);

    const model = await VGGNet.load(output);
    const ranged = model.layers.filter((layer) => 'inputRange' in layer).map(({ name }) => name);
    expect(ranged).toEqual(['conv2_1', 'conv2_2', 'conv3_1', 'conv3_2', 'conv4_1']);
    model.dispose();
    const classified = await vggnet(['classify', repositoryFile('examples/images/glyph-W.png'), '--weights', output]);
    expect(classified.stdout).toMatch(/%\s+W$/m);
  });

  test('prints a report for people, on noise where there are no images', async () => {
    const { code, stdout } = await vggnet(['convert', 'glyphs', output, '--precision', 'int8']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/small\.safetensors: 0\.4 MiB, of 1\.5 MiB in fp32\nAgainst fp32, on 8 inputs of noise:/);
    expect(stdout).toMatch(/^conv3_2 {2}int8 +\d+\.\d\d%$/m);
  });

  test.each([
    [['--precision', 'int9'], 'expected fp32, fp16, int8, int4, or LAYER=PRECISION', 'INVALID_ARGUMENT'],
    [['--precision', 'int8,int4'], "got 'int4'", 'INVALID_ARGUMENT'],
    [['--precision', 'conv=int4'], 'a convolution can be fp32, fp16 or int8', 'INVALID_ARGUMENT'],
    [['--precision', 'conv7_1=int8'], "no layer is called 'conv7_1'", 'INVALID_ARGUMENT'],
    [['--precision', 'int8', '--calibrate', join(folder, 'none')], "can't be read", 'IO'],
    [['--precision', 'int8', '--calibrate', repositoryFile('src')], 'there are no images', 'INVALID_ARGUMENT'],
    [[], "Required option '--precision <LIST>' not specified", 'INVALID_ARGUMENT'],
  ])('%j is wrong use', async (flags, message, failure) => {
    const path = join(folder, 'never.safetensors');
    const { code, stderr } = await vggnet(['convert', 'glyphs', path, ...flags]);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
    expect(stderr).toContain(`(${failure})`);
    expect(existsSync(path)).toBe(false);
  });
});
