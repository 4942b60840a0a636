import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { repositoryFile } from '../cli/run.js';
import { bundleHub } from './bundle.js';
import { contents, newFolder, removeFolder } from './folder.js';
import { type Answer, randomFile, send, serveWeights, type WeightServer } from './server.js';

/* Processes of their own, in Node, Deno and Bun. */

const bytes = randomFile();
const NAME = 'small.safetensors';
const DONE = [NAME, `${NAME}.json`];

let bundle: { folder: string; file: string };
let folder: string;
let server: WeightServer;

beforeAll(async () => {
  bundle = await bundleHub();
});
afterAll(() => removeFolder(bundle.folder));
beforeEach(async () => {
  folder = await newFolder();
});
afterEach(async () => {
  await server.close();
  await removeFolder(folder);
});

async function serve(answer: Answer): Promise<void> {
  server = await serveWeights(answer);
}

interface Ended {
  readonly stdout: string;
  readonly stderr: string;
}

interface Started {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
}

const NODE = [process.execPath, '--input-type=module'];

/** Runs a program that gets the file, and prints its path or the error's code and message. */
function start(options: object = {}, [command, ...flags]: readonly string[] = NODE, first = ''): Started {
  const all = { cacheDir: folder, retryDelay: 10, ...options };
  const text = `import { fetchWeights } from ${JSON.stringify(pathToFileURL(bundle.file).href)};
    ${first}
    const path = await fetchWeights(${JSON.stringify(server.file(bytes))}, ${JSON.stringify(all)})
      .catch((error) => error.code + ' ' + error.message);
    console.log(path);`;
  const child = spawn(command as string, [...flags, '-'], { stdio: ['pipe', 'pipe', 'pipe'] });
  child.stdin?.end(text);
  const ended = new Promise<Ended>((resolve, reject) => {
    let stdout = '';
    let stderr = '';
    child.stdout?.on('data', (data) => {
      stdout += data;
    });
    child.stderr?.on('data', (data) => {
      stderr += data;
    });
    child.on('error', reject);
    child.on('close', () => resolve({ stdout: stdout.trim(), stderr }));
  });
  return { child, ended };
}

async function expectGot({ stdout, stderr }: Ended): Promise<void> {
  expect(stdout, stderr).toBe(join(folder, NAME));
  expect(Buffer.compare(readFileSync(stdout), bytes)).toBe(0);
  expect(await contents(folder)).toEqual(DONE);
}

describe('two processes at once', () => {
  test('download a file once, and both have it', async () => {
    await serve(async (request, response) => {
      await new Promise((resolve) => setTimeout(resolve, 500));
      await send(request, response, bytes);
    });
    for (const ended of await Promise.all([start().ended, start().ended])) await expectGot(ended);
    expect(server.asked).toHaveLength(1);
  });

  test('that do not see each other’s lock do not spoil each other’s file', async () => {
    const slow: Answer = async (request, response) => {
      response.writeHead(200, { 'content-length': bytes.length });
      for (let at = 0; at < bytes.length; at += 30_000) {
        response.write(bytes.subarray(at, at + 30_000));
        await new Promise((resolve) => setTimeout(resolve, 30));
      }
      response.end();
      request.resume();
    };
    await serve(slow);
    // A lock that is old at once is nobody's.
    const lockTimes = { beat: 60_000, stale: -60_000, poll: 5 };
    for (const ended of await Promise.all([start({ lockTimes }).ended, start({ lockTimes }).ended]))
      await expectGot(ended);
    expect(server.asked).toHaveLength(2);
  });

  test('of which one is killed: the other goes on with its bytes', async () => {
    await serve((request, response, index) =>
      send(request, response, bytes, index === 0 ? { stallAfter: 90_000 } : {}),
    );
    const lockTimes = { beat: 50, stale: 300, poll: 20 };
    const first = start({ lockTimes });
    await expect.poll(() => contents(folder)).toContain(`${NAME}.TOKEN.partial`);
    const second = start({ lockTimes });
    await new Promise((resolve) => setTimeout(resolve, 700));
    expect(server.asked).toHaveLength(1);
    first.child.kill('SIGKILL');
    await expectGot(await second.ended);
    expect(server.asked[1]).toMatchObject({ range: 'bytes=90000-', ifRange: '"one"' });
  });
});

test('a folder of another user is an error that says which', async () => {
  await serve((request, response) => send(request, response, bytes));
  await chmod(folder, 0o555);
  const { stdout } = await start({}, undefined, 'if (process.getuid() === 0) process.setuid(65534);').ended;
  expect(stdout).toMatch(/^IO Could not write '.*': EACCES.*; give another folder by cacheDir$/);
  expect(server.asked).toHaveLength(0);
});

describe.each([
  [
    'deno',
    [
      repositoryFile('node_modules/.bin/deno'),
      'run',
      '--quiet',
      '--allow-net',
      '--allow-read',
      '--allow-write',
      '--allow-sys',
    ],
  ],
  ['bun', [repositoryFile('node_modules/.bin/bun'), 'run']],
])('%s', (_, command) => {
  test('goes on after a cut, and then needs no server', async () => {
    await serve((request, response, index) => send(request, response, bytes, index === 0 ? { cutAfter: 80_000 } : {}));
    await expectGot(await start({}, command).ended);
    expect(server.asked[1]).toMatchObject({ range: 'bytes=80000-', ifRange: '"one"' });
    await server.close();
    await expectGot(await start({ retries: 0 }, command).ended);
  });

  test('refuses other bytes, and leaves nothing', async () => {
    await serve((request, response) => send(request, response, randomFile()));
    expect((await start({}, command).ended).stdout).toMatch(/^CHECKSUM_MISMATCH /);
    expect(await contents(folder)).toEqual([]);
  });
});

test('deno without the permission to read the environment says what to do', async () => {
  await serve((request, response) => send(request, response, bytes));
  const command = [
    repositoryFile('node_modules/.bin/deno'),
    'run',
    '--quiet',
    '--no-prompt',
    '--allow-net',
    '--allow-read',
  ];
  const { stdout } = await start({ cacheDir: undefined }, command).ended;
  expect(stdout).toMatch(/^IO Could not find the folder for caches; give one by cacheDir: /);
});
