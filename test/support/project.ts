import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from './child.js';

/* The package as npm packs it, installed into an empty folder, as a user has it. */

export const ROOT: string = fileURLToPath(new URL('../../', import.meta.url));

/** What `npm pack --json` tells. */
export interface Packed {
  readonly filename: string;
  readonly size: number;
  readonly unpackedSize: number;
  readonly files: readonly { readonly path: string; readonly size: number }[];
}

export interface Project {
  readonly folder: string;
  readonly packed: Packed;
  remove(): Promise<void>;
}

/**
 * Packs and installs.
 * @param peers optional packages that the project has too, by links to the repository's
 */
export async function createProject(peers: readonly string[] = []): Promise<Project> {
  const folder = await mkdtemp(join(tmpdir(), 'vggnet-project-'));
  const pack = await succeed('npm', ['pack', '--json', '--pack-destination', folder], ROOT);
  const [packed] = JSON.parse(pack) as [Packed];
  await writeFile(join(folder, 'package.json'), JSON.stringify({ private: true, type: 'module' }));
  await succeed('npm', ['install', '--no-audit', '--no-fund', '--offline', `./${packed.filename}`], folder);
  for (const peer of peers) await symlink(join(ROOT, 'node_modules', peer), join(folder, 'node_modules', peer));
  return { folder, packed, remove: () => rm(folder, { recursive: true }) };
}

async function succeed(command: string, args: readonly string[], cwd: string): Promise<string> {
  const { code, stdout, stderr } = await run(command, args, { cwd });
  if (code !== 0) throw new Error(`${command} ${args[0]} ended with ${code}: ${stderr}`);
  return stdout;
}
