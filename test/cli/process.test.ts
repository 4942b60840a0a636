import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { CLI, inTerminal, repositoryFile, serve, vggnet } from './run.js';

const model = readFileSync(repositoryFile('models/glyphs.safetensors'));
const image = repositoryFile('examples/images/glyph-A.png');

/** Sends a model in parts, for longer than a bar waits before it shows. */
async function sendSlowly(response: ServerResponse): Promise<void> {
  const part = Math.ceil(model.length / 12);
  response.writeHead(200, { 'content-length': model.length });
  for (let start = 0; start < model.length; start += part) {
    response.write(model.subarray(start, start + part));
    await new Promise((resolve) => setTimeout(resolve, 120));
  }
  response.end();
}

describe('progress', () => {
  test('a bar on a terminal when loading is slow, gone at the end', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'vggnet-cli-'));
    const server = await serve(sendSlowly);
    try {
      const results = join(folder, 'results.json');
      const command = `'${process.execPath}' '${CLI}' classify '${image}' --weights ${server.url} --json > '${results}'`;
      const { code, stdout: screen } = await inTerminal(command);
      expect(code, screen).toBe(0);
      expect(screen).toMatch(/loading model\.safetensors {2}\[#+\.+\] \d+% of \d\.\d MiB {2}\d\.\d s/);
      // The last thing is to clear the line.
      expect(screen.endsWith('\u001b[2K'), JSON.stringify(screen.slice(-40))).toBe(true);
      expect(JSON.parse(readFileSync(results, 'utf8')).images[0].predictions[0].label).toBe('A');
    } finally {
      await server.close();
      rmSync(folder, { recursive: true });
    }
  });

  test('none when loading is quick', async () => {
    const { code, stdout } = await inTerminal(`'${process.execPath}' '${CLI}' classify '${image}' --top 1`);
    expect(code).toBe(0);
    expect(stdout).toContain('A');
    expect(stdout).not.toContain('loading');
  });

  test('none when stderr is not a terminal', async () => {
    const server = await serve(sendSlowly);
    try {
      const { code, stderr } = await vggnet(['classify', image, '--weights', server.url]);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    } finally {
      await server.close();
    }
  });
});

describe('the end', () => {
  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('%s stops a load that hangs, silently: exit code %i', async (signal, exitCode) => {
    const server = await serve((response) => {
      response.writeHead(200, { 'content-length': model.length });
      response.write(model.subarray(0, 1000));
    });
    try {
      const result = await vggnet(['classify', image, '--weights', server.url], (child) => {
        void server.asked.then(() => child.kill(signal));
      });
      expect(result).toEqual({ code: exitCode, stdout: '', stderr: '' });
    } finally {
      await server.close();
    }
  });

  test('SIGINT stops a bench and its child', async () => {
    const server = await serve((response) => response.end(model));
    try {
      // A million forwards would take half an hour. Nobody who still holds stderr may be left for this to end.
      const result = await vggnet(['bench', server.url, server.url, '--samples', '1000000'], (child) => {
        void server.asked.then(() => setTimeout(() => child.kill('SIGINT'), 500));
      });
      expect(result).toEqual({ code: 130, stdout: '', stderr: '' });
    } finally {
      await server.close();
    }
  });

  test('a reader that closes stdout early is no error', async () => {
    for (const args of [['summary', 'vgg19_bn'], ['classify', image, image], ['--help']]) {
      const { code, stderr } = await vggnet(args, (child) => child.stdout?.destroy());
      expect({ code, stderr }, args.join(' ')).toEqual({ code: 0, stderr: '' });
    }
  });

  test('a full disk under stdout is one', async () => {
    const { code, stdout } = await inTerminal(`'${process.execPath}' '${CLI}' summary > /dev/full`);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^vggnet: Could not write the results: .*ENOSPC.* \(IO\)/);
  });
});
