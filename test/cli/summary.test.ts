import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { saveOwnModel } from './own-model.js';
import { CLI, vggnet } from './run.js';

describe('vggnet summary', () => {
  test('describes VGG16 by default, without making its weights', async () => {
    const report = "process.on('exit', () => console.error(process.resourceUsage().maxRSS * 1024))";
    const preload = ['--import', `data:text/javascript,${encodeURIComponent(report)}`];
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [...preload, CLI, 'summary', '--json']);
    const document = JSON.parse(stdout);
    expect(document).toMatchObject({ name: 'vgg16', inputShape: [1, 3, 224, 224], parameters: 138_357_544 });
    expect(document.layers[0]).toMatchObject({ name: 'conv1_1', outputShape: [1, 64, 224, 224], parameters: 1792 });
    const peak = Number(stderr);
    expect(peak).toBeGreaterThan(0);
    expect(peak).toBeLessThan(document.parameterBytes / 2);
  });

  test('prints a table for a list and an input', async () => {
    const { code, stdout, stderr } = await vggnet(['summary', '[8, M, 16]', '--input', '2x3x10x12']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain('input [2, 3, 10, 12]');
    expect(stdout).toMatch(/^conv2_1 +conv2d +\[2, 16, 5, 6\] +1,168 /m);
  });

  test('takes an input that all pools of a deep list allow', async () => {
    const pools = Array.from({ length: 8 }, () => 'M');
    const { code, stdout } = await vggnet(['summary', ['4', ...pools].join(), '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout).inputShape).toEqual([1, 3, 256, 256]);
  });

  test('reads the header of a file, and takes the input from its preset', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'vggnet-cli-'));
    try {
      const own = join(folder, 'own.safetensors');
      await saveOwnModel(own);
      const { code, stdout } = await vggnet(['summary', own, '--json']);
      expect(code).toBe(0);
      const document = JSON.parse(stdout);
      expect(document.inputShape).toEqual([1, 1, 16, 16]);
      expect(document.layers.at(-1).outputShape).toEqual([1, 3]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test.each([
    [['vgg17'], 'UNKNOWN_MODEL'],
    [['64,X,128'], 'INVALID_ARCHITECTURE'],
    [['64,0'], 'INVALID_ARCHITECTURE'],
    [['64,2.5'], 'INVALID_ARCHITECTURE'],
    [['M'], 'INVALID_ARCHITECTURE'],
    [['vgg16', '--input', '1x3x31x224'], 'INVALID_SHAPE'],
    [['vgg16', '--input', '1x1x224x224'], 'INVALID_SHAPE'],
  ])('%j is wrong use: %s', async (args, errorCode) => {
    const { code, stdout, stderr } = await vggnet(['summary', ...args]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(new RegExp(`^vggnet: .* \\(${errorCode}\\)\n$`));
  });
});
