import { abortable } from '../abort.js';
import { throwIfAborted } from '../errors.js';
import { cacheError, codeOf, type NodeParts } from './node.js';

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
    if (state && state.life !== seen) {
      seen = state.life;
      // The clock of another machine may be wrong, and so time counts from the first look.
      since = performance.now() - (state.holder?.host === mine.host ? Math.max(0, Date.now() - state.beatAt) : 0);
    }
    if (state && performance.now() - since > times.stale) {
      await remove(node, path);
      const { holder } = state;
      heirOf = holder && holder.host === mine.host && hasEnded(holder.pid) ? holder.token : undefined;
      continue;
    }
    await abortable(new Promise((resolve) => setTimeout(resolve, times.poll)), signal);
  }
}

/** True if a lock is held by someone who is alive. */
export async function isLocked(node: NodeParts, path: string): Promise<boolean> {
  const state = await look(node, path);
  return state !== undefined && Date.now() - state.beatAt < TIMES.stale;
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

function hold({ fs }: NodeParts, path: string, mine: Holder, heirOf: string | undefined, beat: number): Lock {
  const timer = setInterval(() => {
    const now = new Date();
    fs.utimes(path, now, now).catch(() => {});
  }, beat);
  timer.unref?.();
  return {
    token: mine.token,
    heirOf,
    async release() {
      clearInterval(timer);
      // It may be another's by now, if this process slept.
      const text = await fs.readFile(path, 'utf8').catch(() => '');
      if (parseHolder(text)?.token === mine.token) await fs.unlink(path).catch(() => {});
    },
  };
}

async function look(
  { fs }: NodeParts,
  path: string,
): Promise<{ holder: Holder | undefined; life: string; beatAt: number } | undefined> {
  try {
    const [text, { mtimeMs }] = await Promise.all([fs.readFile(path, 'utf8'), fs.stat(path)]);
    return { holder: parseHolder(text), life: `${text}@${mtimeMs}`, beatAt: mtimeMs };
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT') return undefined;
    throw cacheError(`Could not read '${path}'`, cause);
  }
}

async function remove({ fs }: NodeParts, path: string): Promise<void> {
  try {
    await fs.unlink(path);
  } catch (cause) {
    if (codeOf(cause) !== 'ENOENT') throw cacheError(`Could not delete '${path}'`, cause);
  }
}

function parseHolder(text: string): Holder | undefined {
  try {
    const { token, pid, host } = JSON.parse(text);
    // The token becomes part of a file's name.
    const good = /^[0-9a-z]{8}$/.test(token) && Number.isSafeInteger(pid) && pid > 0 && typeof host === 'string';
    return good ? { token, pid, host } : undefined;
  } catch {
    return undefined;
  }
}

function hasEnded(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return codeOf(error) === 'ESRCH';
  }
}
