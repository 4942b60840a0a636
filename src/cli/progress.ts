import { Format, SingleBar } from 'cli-progress';
import type { LoadProgress } from '../weights/bytes/progress.js';
import { printable } from './output.js';

/** What is loaded sooner shows no bar. */
const DELAY_MS = 500;
/** Together with the figures these fit 80 columns. */
const BAR_WIDTH = 16;
const NAME_WIDTH = 24;
const MIB = 2 ** 20;

/**
 * Shows a bar on stderr while `work` loads, from half a second on, and takes it away at the end; none if stderr is
 * not a terminal. Where nobody says how much there is to come, it shows the time.
 */
export async function withProgress<T>(
  label: string,
  work: (onProgress: (progress: LoadProgress) => void) => Promise<T>,
): Promise<T> {
  if (!process.stderr.isTTY) return work(() => {});
  const start = performance.now();
  let latest: LoadProgress = { loaded: 0 };
  // linewrap only means that the terminal's own setting stays as it is: lines are cut to its width.
  const bar = new SingleBar({
    stream: process.stderr,
    clearOnComplete: true,
    linewrap: true,
    barsize: BAR_WIDTH,
    barCompleteChar: '#',
    barIncompleteChar: '.',
    format: (options) => {
      const { loaded, total } = latest;
      const seconds = `${((performance.now() - start) / 1000).toFixed(1)} s`;
      const name = `loading ${shorten(printable(label))}`;
      if (!total) return `${name}  ${loaded > 0 ? `${(loaded / MIB).toFixed(1)} MiB  ` : ''}${seconds}`;
      const part = loaded / total;
      const drawn = Format.BarFormat(part, options);
      return `${name}  [${drawn}] ${Math.floor(part * 100)}% of ${(total / MIB).toFixed(1)} MiB  ${seconds}`;
    },
  });
  // Redraws itself ten times a second once started; stopping one that was not started does nothing.
  const timer = setTimeout(() => bar.start(1, 0), DELAY_MS);
  try {
    return await work((progress) => {
      latest = progress;
    });
  } finally {
    clearTimeout(timer);
    bar.stop();
  }
}

/** The end of a path or URL, without a query. */
function shorten(label: string): string {
  const name = label.replace(/[?#].*$/, '').replace(/^.*[/\\](?=.)/, '');
  return name.length <= NAME_WIDTH ? name : `${name.slice(0, NAME_WIDTH - 1)}…`;
}
