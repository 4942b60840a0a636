import { expect, test } from 'vitest';
import { SerialQueue } from '../src/serial-queue.js';

const soon = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

test('tasks run one after another, in order, and each call gets its own result', async () => {
  const queue = new SerialQueue();
  const log: string[] = [];
  const task = (name: string, ms: number) => async (): Promise<string> => {
    log.push(`${name} starts`);
    await soon(ms);
    log.push(`${name} ends`);
    return name;
  };
  const results = await Promise.all([queue.run(task('a', 10)), queue.run(task('b', 0)), queue.run(() => 'c')]);
  expect(results).toEqual(['a', 'b', 'c']);
  expect(log).toEqual(['a starts', 'a ends', 'b starts', 'b ends']);
});

test('a task that fails rejects for its own caller alone', async () => {
  const queue = new SerialQueue();
  const failed = queue.run(() => Promise.reject(new Error('late')));
  const thrown = queue.run(() => {
    throw new Error('at once');
  });
  const after = queue.run(() => 1);
  await expect(failed).rejects.toThrow('late');
  await expect(thrown).rejects.toThrow('at once');
  await expect(after).resolves.toBe(1);
});
