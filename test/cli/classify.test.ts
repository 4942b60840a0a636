import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { newFolder, removeFolder } from '../hub/folder.js';
import { createOwnModel, HOSTILE_LABEL, saveOwnModel } from './own-model.js';
import { NO_GPU, repositoryFile, vggnet } from './run.js';

const golden: {
  readonly images: readonly { file: string; label: string; top5: readonly { label: string; probability: number }[] }[];
} = JSON.parse(readFileSync(repositoryFile('test/golden/glyphs.json'), 'utf8'));

const folder = mkdtempSync(join(tmpdir(), 'vggnet-cli-'));
const own = join(folder, 'own.safetensors');
const image = (name: string): string => repositoryFile(`examples/images/${name}`);

beforeAll(() => saveOwnModel(own));
afterAll(() => rmSync(folder, { recursive: true }));

describe('vggnet classify', () => {
  test('reads the sample images with the embedded model, as PyTorch does', async () => {
    const files = golden.images.map(({ file }) => image(file));
    const { code, stdout, stderr } = await vggnet(['classify', ...files, '--json']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const document = JSON.parse(stdout);
    expect(Object.keys(document)).toEqual(['model', 'device', 'loadMs', 'images']);
    expect(document).toMatchObject({ model: 'glyphs', device: { backend: 'wasm', threads: expect.any(Number) } });
    expect(document.loadMs).toBeGreaterThan(0);
    expect(document.images.map((entry: { file: string }) => entry.file)).toEqual(files);
    for (const [i, entry] of document.images.entries()) {
      expect(Object.keys(entry)).toEqual(['file', 'predictions', 'ms']);
      expect(entry.ms.preprocess).toBeGreaterThan(0);
      expect(entry.ms.forward).toBeGreaterThan(0);
      const { top5 } = golden.images[i] as (typeof golden.images)[number];
      expect(entry.predictions.map(({ label }: { label: string }) => label)).toEqual(top5.map(({ label }) => label));
      for (const [k, { index, probability }] of entry.predictions.entries()) {
        expect(index).toBe('0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ'.indexOf(top5[k]?.label as string));
        // One grey level of the decoder's moves a probability by about this much.
        expect(Math.abs(probability - (top5[k]?.probability ?? 0))).toBeLessThan(5e-3);
      }
    }
  });

  test('prints label, percent and times, as many as asked for', async () => {
    const file = image('glyph-A.png');
    const { code, stdout, stderr } = await vggnet(['classify', file, '--top', '2', '--device', 'reference']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const [head, blank, name, first, second, ...rest] = stdout.split('\n');
    expect(head).toMatch(/^glyphs on reference \(1 thread\), loaded in [\d.,]+ ms$/);
    expect(blank).toBe('');
    expect(name).toMatch(/\/glyph-A\.png {2}\(preprocess [\d.,]+ ms, forward [\d.,]+ ms\)$/);
    expect(first).toMatch(/^ +9\d\.\d\d% {2}A$/);
    expect(second).toMatch(/^ +\d\.\d\d% {2}R$/);
    expect(rest).toEqual(['']);
  });

  test('an image that fails is reported, the others go on, and the exit code is 1', async () => {
    const broken = join(folder, 'broken.png');
    writeFileSync(broken, 'no picture');
    const missing = join(folder, 'missing.png');
    const { code, stdout, stderr } = await vggnet(['classify', missing, image('glyph-W.png'), broken, '--json']);
    expect(code).toBe(1);
    const { images } = JSON.parse(stdout);
    expect(images).toHaveLength(1);
    expect(images[0].predictions[0].label).toBe('W');
    const lines = stderr.trimEnd().split('\n');
    expect(lines).toHaveLength(2);
    expect(lines[0]).toMatch(/^vggnet: .*missing\.png.* \(IO\)$/);
    expect(lines[1]).toMatch(/^vggnet: .*broken\.png.* \(INVALID_IMAGE\)$/);
  });

  test('takes a file that describes itself, by --model or --weights, and prints no control characters', async () => {
    const file = image('glyph-7-inverted.png');
    const model = await createOwnModel();
    const expected = await model.classify(file);
    model.dispose();
    for (const option of ['--model', '--weights']) {
      const { code, stdout, stderr } = await vggnet(['classify', file, option, own, '--json']);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      const { predictions } = JSON.parse(stdout).images[0];
      expect(predictions).toHaveLength(3);
      for (const [i, { label, index, probability }] of predictions.entries()) {
        expect({ label, index }).toEqual({ label: expected[i]?.label, index: expected[i]?.index });
        expect(Math.abs(probability - (expected[i]?.probability as number))).toBeLessThan(1e-6);
      }
    }
    const { stdout } = await vggnet(['classify', file, '--model', own]);
    expect(stdout).toContain(HOSTILE_LABEL.replace('\u001b', '?'));
    expect(stdout).not.toContain('\u001b');
  });

  const unused = 'unused.png';

  test('a network by name asks for its official weights, and says from where', async () => {
    const asked: string[] = [];
    const server = createServer(({ url = '' }, response) => {
      asked.push(url);
      response.writeHead(asked.length === 1 ? 404 : 200).end('no weights');
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const cache = await newFolder();
    try {
      const args = ['classify', unused, '--model', 'VGG16', '--cache-dir', cache, '--base-url', origin];
      const missing = await vggnet(args);
      expect({ code: missing.code, stdout: missing.stdout }).toEqual({ code: 1, stdout: '' });
      expect(missing.stderr).toMatch(new RegExp(`^vggnet: .*${origin}/.*404.* \\(IO\\)\n$`));
      const wrong = await vggnet(args);
      expect({ code: wrong.code, stdout: wrong.stdout }).toEqual({ code: 1, stdout: '' });
      expect(wrong.stderr).toMatch(/\(CHECKSUM_MISMATCH\)\n$/);
      expect(asked[0]).toMatch(/vgg16/);
      expect(await readdir(cache)).toEqual([]);
    } finally {
      server.close();
      await removeFolder(cache);
    }
  });

  test.each([
    [['--model', 'vgg61'], 2, 'UNKNOWN_MODEL', 'nearest: vgg11, vgg13, vgg16.'],
    [['--model', 'glyph'], 2, 'UNKNOWN_MODEL', 'nearest: glyphs'],
    [['--model', '8,M'], 2, 'INVALID_ARGUMENT', '--weights FILE|URL'],
    [['--model', own, '--weights', own], 2, 'INVALID_ARGUMENT', 'brings its own weights'],
    [['--top', '37'], 2, 'INVALID_ARGUMENT', 'from 1 to 36'],
    [['--model', 'vgg16', '--weights', own], 1, 'WEIGHTS_MISMATCH', ''],
    [['--model', './no-such-file'], 1, 'IO', 'no-such-file'],
    [['--weights', image('glyph-A.png')], 1, 'INVALID_WEIGHTS_FILE', 'glyph-A.png'],
  ])('%j: exit code %i, %s', async (args, exitCode, errorCode, message) => {
    const { code, stdout, stderr } = await vggnet(['classify', unused, ...args]);
    expect({ code, stdout }).toEqual({ code: exitCode, stdout: '' });
    expect(stderr.startsWith('vggnet: '), stderr).toBe(true);
    expect(stderr.endsWith(` (${errorCode})\n`), stderr).toBe(true);
    expect(stderr).toContain(message);
    expect(stderr).not.toContain('    at ');
  });

  test('a device that is not here is a failure', async () => {
    const { code, stdout, stderr } = await vggnet(['classify', unused, '--device', 'webgpu'], undefined, NO_GPU);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^vggnet: .*WebGPU.* \(BACKEND_UNAVAILABLE\)$/m);
  });
});
