import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { saveFile, VGGNet } from '../../src/index.js';
import { repositoryFile } from './run.js';
import { classify, type Running, startWith } from './serving.js';

/* `vggnet serve`, one of whose workers is ended while it computes. */

let folder: string;
/** A model of which a forward takes long enough to be met. */
let file: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vggnet-crash-'));
  file = join(folder, 'slow.safetensors');
  const options = { numClasses: 10, hiddenFeatures: 16, poolSize: 2, seed: 5, device: 'reference' } as const;
  const model = await VGGNet.create([64, 64, 64, 64, 64, 64, 'M'], options);
  await saveFile(file, model.save());
  model.dispose();
});
afterAll(() => rm(folder, { recursive: true }));

interface Answer {
  readonly status: number;
  readonly later: string | null;
  readonly body: unknown;
}

async function ask({ url }: Running): Promise<Answer> {
  const response = await classify(url);
  return { status: response.status, later: response.headers.get('retry-after'), body: await response.json() };
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe.each([1, 2, 3])('with threads for %i cores', (cores) => {
  let server: Running;
  let right: Answer;

  const ask12 = (): Promise<Answer>[] => Array.from({ length: 12 }, () => ask(server));

  beforeAll(async () => {
    const options = `--import=${pathToFileURL(repositoryFile('test/support/end-workers.mjs'))}`;
    const env = { NODE_OPTIONS: options, CORES: String(cores) };
    server = await startWith(env, '--device', 'wasm', '--weights', file, '--max-batch', '2');
    right = await ask(server);
    expect(right).toMatchObject({ status: 200, body: { predictions: expect.anything() } });
  });
  afterAll(async () => {
    server.child.kill('SIGTERM');
    const { code, stdout, stderr } = await server.ended;
    expect(code).toBe(0);
    expect(stdout).toContain(`${cores} thread`);
    // Nothing else is said but that a worker was ended, also while the model was loaded again.
    const lines = stderr.trimEnd().split('\n');
    const others = lines.filter((line) => line !== 'ended a worker' && !/^vggnet: A worker ended while /.test(line));
    expect(others).toEqual([]);
    expect(lines.length).toBeGreaterThan(1);
  });

  test('nobody notices one that ends in a forward', async () => {
    const answers = ask12();
    // Then the next forward runs.
    await Promise.race(answers);
    server.child.kill('SIGUSR2');
    expect(await Promise.all(answers)).toEqual(Array(12).fill(right));
  });

  test('when workers end again and again a request fails by 503, and the next after that is answered', async () => {
    const asking = ask12();
    let waiting = true;
    const answered = Promise.all(asking).finally(() => {
      waiting = false;
    });
    const begin = performance.now();
    while (waiting && performance.now() - begin < 1000) {
      server.child.kill('SIGUSR2');
      await sleep(10);
    }
    const answers = await answered;
    const failed = answers.filter(({ status }) => status !== 200);
    expect(failed.length).toBeGreaterThan(0);
    for (const answer of failed) {
      // The second where the weights ended with their one worker, and the next one while it loaded them.
      const code = expect.stringMatching(cores > 1 ? /^WORKER_CRASHED$/ : /^(WORKER_CRASHED|NOT_LOADED)$/);
      expect(answer).toMatchObject({ status: 503, later: '1', body: { code } });
    }
    expect(answers.filter(({ status }) => status === 200)).toEqual(Array(12 - failed.length).fill(right));
    expect(await Promise.all(ask12())).toEqual(Array(12).fill(right));
  });
});
