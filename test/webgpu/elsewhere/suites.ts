import { type File, startTests, type Task, type VitestRunner } from '@vitest/runner';

/* Runs test files in this runtime, and gives what came of each test. */

export interface Outcome {
  readonly name: string;
  readonly state: string;
  readonly errors: readonly string[];
}

/** @param suites what importing each file does, by its name */
export async function runSuites(suites: Readonly<Record<string, () => Promise<unknown>>>): Promise<Outcome[]> {
  // Side by side, as Deno looks for what the GPU has done only every few milliseconds.
  const runner: VitestRunner = {
    config: {
      root: '/',
      setupFiles: [],
      passWithNoTests: false,
      testNamePattern: undefined,
      sequence: { shuffle: false, concurrent: true, seed: 0, hooks: 'parallel', setupFiles: 'list' },
      maxConcurrency: 16,
      testTimeout: 120_000,
      hookTimeout: 120_000,
      retry: 0,
      includeTaskLocation: false,
      chaiConfig: undefined,
      diffOptions: undefined,
      tags: [],
      tagsFilter: undefined,
      strictTags: false,
    } as never,
    // Told as it goes, so that a test that hangs can be named.
    onAfterRunTask: (task) => console.error(`${task.result?.state} ${task.name}`),
    importFile: (path) => (suites[path.replace(/^\//, '')] as () => Promise<unknown>)(),
  };
  const files = await startTests(Object.keys(suites).map((name) => ({ filepath: `/${name}` })) as never, runner);
  return files.flatMap((file: File) => outcomes(file, []));
}

function outcomes(task: Task, path: readonly string[]): Outcome[] {
  const name = [...path, task.name];
  const errors = (task.result?.errors ?? []).map(({ message }) => String(message).slice(0, 2000));
  const own = { name: name.join(' > '), state: task.result?.state ?? task.mode, errors };
  if (task.type === 'test') return [own];
  const inner = task.tasks.flatMap((one) => outcomes(one, name));
  return errors.length > 0 || inner.length === 0 ? [own, ...inner] : inner;
}
