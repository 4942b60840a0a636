import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { arch, availableParallelism, cpus, platform, release, totalmem } from 'node:os';

export interface Machine {
  readonly cpu: string;
  /** Cores that this process may use. */
  readonly cores: number;
  readonly memoryGiB: number;
  readonly os: string;
}

export function describeMachine(): Machine {
  return {
    cpu: cpuName(),
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    os: `${platform()} ${release()} ${arch()}`,
  };
}

/** The model's name, with family and model number where Linux tells them: a virtual machine may hide the name. */
function cpuName(): string {
  const name = cpus()[0]?.model.trim() ?? 'unknown';
  try {
    const info = readFileSync('/proc/cpuinfo', 'utf8');
    const number = (key: string): string | undefined => info.match(new RegExp(`^${key}\\s*:\\s*(\\d+)$`, 'm'))?.[1];
    const [family, model] = [number('cpu family'), number('model')];
    return family && model ? `${name} (family ${family}, model ${model})` : name;
  } catch {
    return name;
  }
}

/**
 * The share of all cores that other work takes, from 0 to 1, watched for `ms` while this process waits. Paired samples
 * bear a machine that is busy for all alike, but a core that is taken hits systems with many threads more than others.
 */
export async function otherLoad(ms = 300): Promise<number> {
  const times = (): { idle: number; all: number } => {
    const each = cpus().map(({ times: { idle, ...busy } }) => ({
      idle,
      all: idle + busy.user + busy.nice + busy.sys + busy.irq,
    }));
    return each.reduce((sum, one) => ({ idle: sum.idle + one.idle, all: sum.all + one.all }), { idle: 0, all: 0 });
  };
  const before = times();
  await new Promise((resolve) => setTimeout(resolve, ms));
  const after = times();
  const all = after.all - before.all;
  return all > 0 ? Number((1 - (after.idle - before.idle) / all).toFixed(2)) : 0;
}

/** The commit of the repository at `folder`, with `-dirty` if tracked files differ; 'unknown' without git. */
export function describeCommit(folder: string): string {
  try {
    const git = (...args: string[]): string =>
      execFileSync('git', args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
    const changed = git('status', '--porcelain', '--untracked-files=no', '--', '.', ':!bench/results');
    return `${git('rev-parse', '--short=10', 'HEAD')}${changed ? '-dirty' : ''}`;
  } catch {
    return 'unknown';
  }
}
