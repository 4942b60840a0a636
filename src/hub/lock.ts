import { abortable } from '../abort.js';
import { throwIfAborted } from '../errors.js';
import { cacheError, codeOf, isText, type NodeParts, parseRecord, readSmall } from './node.js';

/*
 * One process downloads a file, and the others wait for it. The lock saves downloads, and nothing depends on it: each
 * process writes a file of its own, and the last step is a rename.
 */

/** Milliseconds. */
export interface LockTimes {
  /** Between two signs of life. */
  readonly beat: number;
  /** Without a sign of life, a lock is nobody's after this. */
  readonly stale: number;
  /** Between two looks at another's lock. */
  readonly poll: number;
}

const TIMES: LockTimes = { beat: 2_000, stale: 10_000, poll: 200 };

export interface Lock {
  /** Nobody else's: names the holder's own files. */
  readonly token: string;
  /** The token of a process of this machine that is known to have ended without giving the lock back. */
  readonly heirOf: string | undefined;
  release(): Promise<void>;
}

interface Holder {
  readonly token: string;
  readonly pid: number;
  readonly host: string;
}

/**
 * Takes the lock at a path, and waits while another has it, unless `ready` gives what is waited for.
 * @throws VGGNetError `IO`, `ABORTED`
 */
export async function takeLock<T>(
  node: NodeParts,
  path: string,
  ready: () => Promise<T | undefined>,
  { signal, times = TIMES }: { signal?: AbortSignal | undefined; times?: LockTimes | undefined },
): Promise<Lock | { readonly ready: T }> {
  const token = Math.random().toString(36).slice(2, 10).padEnd(8, '0');
  const mine: Holder = { token, pid: process.pid, host: node.os.hostname() };
  let heirOf: string | undefined;
  let seen = '';
  let since = performance.now();
  for (;;) {
    throwIfAborted(signal);
    if (await create(node, path, mine)) return hold(node, path, mine, heirOf, times.beat);
    const done = await ready();
    if (done !== undefined) return { ready: done };
    const state = await look(node, path);
    // A link or pipe in the lock's place is nobody's sign of life.
    if (state?.life === FOREIGN) {
      await remove(node, path);
      continue;
    }
    if (state?.holder?.host === mine.host && hasEnded(state.holder.pid)) {
      await remove(node, path, state.life);
      heirOf = state.holder.token;
      continue;
    }
    if (state && state.life !== seen) {
      seen = state.life;
      // The clock of another machine may be wrong, and so time counts from the first look.
      since = performance.now() - (state.holder?.host === mine.host ? Math.max(0, Date.now() - state.beatAt) : 0);
    }
    if (state && performance.now() - since > times.stale) {
      await remove(node, path, state.life);
      heirOf = undefined;
      continue;
    }
    await abortable(new Promise((resolve) => setTimeout(resolve, times.poll)), signal);
  }
}

/** True if a lock is held by someone who is alive. */
export async function isLocked(node: NodeParts, path: string): Promise<boolean> {
  const state = await look(node, path);
  if (state === undefined || Date.now() - state.beatAt >= TIMES.stale) return false;
  return !(state.holder?.host === node.os.hostname() && hasEnded(state.holder.pid));
}

async function create({ fs }: NodeParts, path: string, mine: Holder): Promise<boolean> {
  try {
    await fs.writeFile(path, JSON.stringify(mine), { flag: 'wx' });
    return true;
  } catch (cause) {
    if (codeOf(cause) === 'EEXIST') return false;
    throw cacheError(`Could not write '${path}'`, cause);
  }
}

function hold(node: NodeParts, path: string, mine: Holder, heirOf: string | undefined, beat: number): Lock {
  const { fs } = node;
  const timer = setInterval(() => {
    const now = new Date();
    // Of the link itself, if one has taken the lock's place.
    fs.lutimes(path, now, now).catch(() => {});
  }, beat);
  timer.unref?.();
  return {
    token: mine.token,
    heirOf,
    async release() {
      clearInterval(timer);
      // It may be another's by now, if this process slept.
      const text = await readSmall(node, path).catch(() => '');
      if (parseHolder(text)?.token === mine.token) await fs.unlink(path).catch(() => {});
    },
  };
}

/** What there is in the place of a lock that is no file. */
const FOREIGN = 'foreign';

async function look(
  node: NodeParts,
  path: string,
): Promise<{ holder: Holder | undefined; life: string; beatAt: number } | undefined> {
  try {
    const { mtimeMs } = await node.fs.lstat(path);
    const text = await readSmall(node, path);
    return { holder: parseHolder(text), life: `${text}@${mtimeMs}`, beatAt: mtimeMs };
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT') return undefined;
    if (codeOf(cause) === 'ENOTFILE') return { holder: undefined, life: FOREIGN, beatAt: 0 };
    throw cacheError(`Could not read '${path}'`, cause);
  }
}

/** @param life the lock that was looked at: another's, which took its place since, stays */
async function remove(node: NodeParts, path: string, life?: string): Promise<void> {
  try {
    if (life !== undefined && (await look(node, path))?.life !== life) return;
    await node.fs.unlink(path);
  } catch (cause) {
    if (codeOf(cause) !== 'ENOENT') throw cacheError(`Could not delete '${path}'`, cause);
  }
}

function parseHolder(text: string): Holder | undefined {
  const { token, pid, host } = parseRecord(text);
  // The token becomes part of a file's name.
  if (!isText(token, /^[0-9a-z]{8}$/) || typeof pid !== 'number' || typeof host !== 'string') return undefined;
  return Number.isSafeInteger(pid) && pid > 0 ? { token, pid, host } : undefined;
}

function hasEnded(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return codeOf(error) === 'ESRCH';
  }
}
