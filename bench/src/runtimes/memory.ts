import { readdirSync, readFileSync } from 'node:fs';

/**
 * The largest peak of resident memory among processes, in bytes: of a browser's, the one that holds the page.
 * undefined where the system does not tell (it is read from Linux's /proc).
 */
export function largestPeak(pids: readonly number[]): number | undefined {
  const peaks = pids.flatMap((pid) => {
    const kib = readProcess(pid, 'status')?.match(/^VmHWM:\s*(\d+) kB$/m)?.[1];
    return kib ? [Number(kib) * 1024] : [];
  });
  return peaks.length > 0 ? Math.max(...peaks) : undefined;
}

/** A process and all that come from it, as far as Linux's /proc tells. */
export function processTree(root: number): number[] {
  let entries: string[];
  try {
    entries = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  } catch {
    return [root];
  }
  const children = new Map<number, number[]>();
  for (const pid of entries.map(Number)) {
    // After the name, which may hold anything: the state, then the parent.
    const parent = readProcess(pid, 'stat')?.match(/.*\) \S (\d+)/s)?.[1];
    if (parent) children.set(Number(parent), [...(children.get(Number(parent)) ?? []), pid]);
  }
  const tree = [root];
  for (const pid of tree) tree.push(...(children.get(pid) ?? []));
  return tree;
}

function readProcess(pid: number, file: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return undefined;
  }
}
