import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { NO_GPU, repositoryFile, vggnet } from './run.js';

const COMMANDS = ['classify', 'summary', 'forward', 'bench', 'serve', 'cache'];

describe('help', () => {
  test('of the whole and of each command is on stdout, with examples', async () => {
    for (const args of [['--help'], ...COMMANDS.map((command) => [command, '--help'])]) {
      const { code, stdout, stderr } = await vggnet(args);
      expect({ code, stderr }, args.join(' ')).toEqual({ code: 0, stderr: '' });
      expect(stdout).toContain('Usage: vggnet');
      expect(stdout).toContain('\nExamples:\n  vggnet ');
      if (args.length === 1) for (const command of COMMANDS) expect(stdout).toMatch(new RegExp(`^  ${command} `, 'm'));
    }
  });

  test('has no example that is wrong use', async () => {
    for (const command of COMMANDS) {
      const { stdout } = await vggnet([command, '--help']);
      const examples = stdout.match(/^ {2}vggnet .*$/gm) ?? [];
      expect(examples.length).toBeGreaterThan(1);
      for (const example of examples) {
        const args = example.trim().split(' ').slice(1);
        // Files that the reader has are missing here, and no webgpu makes a bench or a server fail before it runs.
        const stopped = command === 'bench' || command === 'serve';
        const { code, stderr } = await vggnet(stopped ? [...args, '--device', 'webgpu'] : args, undefined, NO_GPU);
        const expected = command === 'summary' || command === 'cache' ? 0 : 1;
        expect(code, `${example}: ${stderr}`).toBe(expected);
      }
    }
  });

  test('--version is the version of the package', async () => {
    const { version } = JSON.parse(readFileSync(repositoryFile('package.json'), 'utf8'));
    expect(await vggnet(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
  });
});

describe('wrong use', () => {
  test('without a command, the help is on stderr', async () => {
    const { code, stdout, stderr } = await vggnet([]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain('Usage: vggnet');
  });

  test.each([
    [['clasify', 'a.png'], "Unknown command 'clasify' (Did you mean classify?)"],
    [['classify'], "Missing required argument 'IMAGE'"],
    [['classify', 'a.png', '--modle', 'vgg16'], "Unknown option '--modle' (Did you mean --model?)"],
    [['classify', 'a.png', '--top', '0'], 'Expected an integer from 1 to'],
    [['classify', 'a.png', '--top', '2.5'], 'Expected an integer from 1 to'],
    [['classify', 'a.png', '--device', 'gpu'], 'Allowed choices are auto, wasm, webgpu, reference'],
    [['summary', 'vgg16', 'vgg19'], 'Too many arguments'],
    [['summary', '--input', '3x224x224'], 'Expected a shape such as 1x3x224x224'],
    [['forward', '--input', 'x.safetensors'], "Required option '--output <FILE>' not specified"],
    [['forward', '--input', 'x', '--output', 'y', '--seed', '4294967296'], 'Expected an integer from 0 to 4294967295'],
    [['forward', '--input', 'x', '--output', 'y', '--layers', 'fc7,'], 'Expected layer names such as'],
  ])('%j', async (args, message) => {
    const { code, stdout, stderr } = await vggnet(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/^vggnet: [^\n]* \(INVALID_ARGUMENT\)\n$/);
    expect(stderr).toContain(message);
  });
});
