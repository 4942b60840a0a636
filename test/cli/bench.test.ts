import { describe, expect, test } from 'vitest';
import { NO_GPU, vggnet } from './run.js';

describe('vggnet bench', () => {
  test('times every model in a process of its own', async () => {
    const args = ['glyphs', '4,M', '--size', '32', '--samples', '3', '--warmup', '1', '--json'];
    const { code, stdout, stderr } = await vggnet(['bench', ...args]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const { results, ...options } = JSON.parse(stdout);
    expect(options).toEqual({ batch: 1, samples: 3, warmup: 1 });
    expect(results).toHaveLength(2);
    expect(results[0]).toMatchObject({ model: 'glyphs', batch: 1, inputShape: [1, 1, 32, 32] });
    expect(results[1]).toMatchObject({ model: 'vgg', batch: 1, inputShape: [1, 3, 32, 32] });
    for (const { device, loadMs, forwardMs, gflops, peakRss } of results) {
      expect(device).toMatchObject({ backend: 'wasm', threads: expect.any(Number) });
      expect(loadMs).toBeGreaterThan(0);
      expect(forwardMs.min).toBeGreaterThan(0);
      expect(forwardMs.median).toBeGreaterThanOrEqual(forwardMs.min);
      expect(forwardMs.p90).toBeGreaterThanOrEqual(forwardMs.median);
      expect(gflops).toBeGreaterThan(0);
      expect(peakRss).toBeGreaterThan(2 ** 24);
    }
    const { stdout: summary } = await vggnet(['summary', 'glyphs', '--json']);
    const { macs } = JSON.parse(summary);
    expect(results[0].gflops).toBeCloseTo((2 * macs) / (results[0].forwardMs.median * 1e6), 6);
    // The second holds 90 MB of weights, and the first must not be charged with them, nor the other way round.
    expect(results[1].peakRss - results[0].peakRss).toBeGreaterThan(60e6);
  });

  test('prints a table', async () => {
    const { code, stdout, stderr } = await vggnet(['bench', 'glyphs', '--batch', '3', '--samples', '2']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const [heading, row, ...rest] = stdout.split('\n');
    expect(heading).toMatch(/^model +device +build +threads +input +load ms +median ms +min ms +p90 ms +GFLOP\/s/);
    expect(row).toMatch(/^glyphs +wasm +\S+ +\d+ +3x1x32x32( +[\d.]+){6}$/);
    expect(rest).toEqual(['']);
  });

  test('wrong use is found before anything runs, and a device that is not here is a failure', async () => {
    const unknown = await vggnet(['bench', 'vgg16', 'vgg61']);
    expect(unknown).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('(UNKNOWN_MODEL)') });
    const small = await vggnet(['bench', 'vgg16', '--size', '31']);
    expect(small).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('(INVALID_SHAPE)') });
    const webgpu = await vggnet(['bench', 'glyphs', 'glyphs', '--device', 'webgpu', '--json'], undefined, NO_GPU);
    expect(webgpu.code).toBe(1);
    expect(webgpu.stderr.match(/^vggnet: .* \(BACKEND_UNAVAILABLE\)$/gm)).toHaveLength(2);
    expect(JSON.parse(webgpu.stdout).results).toEqual([]);
  });
});
