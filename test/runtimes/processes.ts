import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../support/child.js';
import { ROOT } from '../support/project.js';

/* The runtimes that are processes. One that is not here is an error: nothing is skipped. */

export interface Command {
  readonly path: string;
  /** Before a script's path. */
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** A Node of a major version, from npm's package of it. */
export async function node(major: number): Promise<Command> {
  const path = join(ROOT, `test/runtimes/nodes/node_modules/node${major}/bin/node`);
  if (!existsSync(path)) throw new Error(`Node ${major} is needed: npm run test:setup`);
  return { path, args: [], env: {} };
}

export async function deno(): Promise<Command> {
  return {
    path: join(ROOT, 'node_modules/.bin/deno'),
    args: ['run', '--allow-all', '--no-lock', '--no-prompt', '--cached-only'],
    env: { DENO_NO_UPDATE_CHECK: '1' },
  };
}

export async function bun(): Promise<Command> {
  return { path: join(ROOT, 'node_modules/.bin/bun'), args: ['run'], env: {} };
}

/** Runs a script in a folder, and gives what it printed. */
export async function runScript(
  { path, args, env }: Command,
  script: string,
  { cwd, args: own = [], env: more = {} }: { cwd: string; args?: readonly string[]; env?: Record<string, string> },
): Promise<string> {
  const { code, stdout, stderr } = await run(path, [...args, script, ...own], { cwd, env: { ...env, ...more } });
  if (code !== 0) throw new Error(`${path} ${script} ended with ${code}: ${stderr}\n${stdout}`);
  return stdout;
}
