import { type Ratio, ratiosOf } from './ratios.js';
import { QUIET, type Row } from './record.js';
import { median } from './stats.js';

/* Are we as fast as we were, compared with others? Each ratio is compared within the noise that its samples show. */

/** What became of one ratio. */
export interface Verdict {
  readonly id: string;
  readonly against: string;
  readonly of: Ratio['of'];
  readonly group: string;
  readonly before: Ratio;
  /** One for each time that it was measured. */
  readonly after: readonly Ratio[];
  /** `worse` and `better`: the intervals of all of `after` lie on that side of `before`, by more than `restart`. */
  readonly change: 'worse' | 'better' | 'same';
}

/**
 * Compares the ratios that both runs have. `again` is a second measurement in new processes, of the groups that looked
 * worse; `restart` is what new processes alone change, as a factor over 1.
 */
export function compareRows(
  committed: readonly Row[],
  now: readonly Row[],
  again: readonly Row[] = [],
  restart: number = restartNoise(now, again),
): Verdict[] {
  const [first, second] = [index(now), index(again)];
  // A row may have come to run another network.
  const networks = new Map(now.map(({ id, network }) => [id, network]));
  const comparable = committed.filter(({ id, network }) => networks.get(id) === network);
  return ratiosOf(comparable).flatMap((before) => {
    const after = [first.get(key(before)), second.get(key(before))].filter((ratio) => ratio !== undefined);
    if (after.length === 0) return [];
    const { id, against, of, group } = before;
    const worse = after.every(({ low }) => low > before.high * restart);
    const better = after.every(({ high }) => high * restart < before.low);
    return [{ id, against, of, group, before, after, change: worse ? 'worse' : better ? 'better' : 'same' }];
  });
}

/** Of normally distributed values around zero: the size that 95% do not pass, over the median size. */
const TAIL = 1.96 / 0.6745;

/**
 * What new processes alone do to ratios, as a factor that 95% of changes do not pass, if their logarithms are normally
 * distributed: from the median, over all ratios measured twice, of how far the second is from the first. The code is the
 * same both times, so nothing but noise is in it. 1 if nothing was measured twice.
 */
export function restartNoise(now: readonly Row[], again: readonly Row[]): number {
  const first = index(now);
  const changes = [...index(again)].flatMap(([name, { median: second }]) => {
    const before = first.get(name)?.median;
    return before === undefined ? [] : [Math.abs(Math.log(second / before))];
  });
  return changes.length > 0 ? Math.exp(TAIL * median(changes)) : 1;
}

function key({ id, against, of }: Ratio): string {
  return `${id} ${against} ${of}`;
}

function index(rows: readonly Row[]): Map<string, Ratio> {
  return new Map(ratiosOf(rows).map((one) => [key(one), one]));
}

/** The groups of what looks worse. */
export function suspects(verdicts: readonly Verdict[]): string[] {
  return [...new Set(verdicts.filter(({ change }) => change === 'worse').map(({ group }) => group))];
}

const HOW = `Each ratio is a time over another's (or a peak of memory), so lower is better. Its noise, in brackets, is estimated
from its samples: systems are sampled in turn, a ratio is the median of the ratios of single rounds, and its interval
lies between two of them, by order statistics (95% and more from 6 rounds on; under that the whole range). Kernels are
timed apart from the micro-kernel: their interval is that of the two intervals' ends. What a new process changes is not
in one run's samples, so groups with a ratio that looks worse are measured again in new processes, and what 95% of changes
from the first time to the second do not pass, as their median says, is added to the noise. WORSE is a ratio whose
intervals lie above the committed one by more than that, both times; better is one that lies below.`;

/** The verdicts as text, worst first, with how they were reached. */
export function formatVerdicts(
  verdicts: readonly Verdict[],
  committed: readonly Row[],
  now: readonly Row[],
  restart: number = 1,
): string {
  const lines = [...verdicts].sort((a, b) => shift(b) - shift(a)).map(formatVerdict);
  const count = (change: Verdict['change']): number => verdicts.filter((verdict) => verdict.change === change).length;
  const cpus = [committed, now].map((rows) => rows[0]?.machine.cpu ?? 'unknown');
  const twice = verdicts.some(({ after }) => after.length > 1);
  return [
    HOW,
    '',
    ...lines,
    '',
    ...(cpus[0] === cpus[1] ? [] : [`Committed on ${cpus[0]}, this is ${cpus[1]}: ratios may differ for that.`]),
    ...busyLine('the committed run', committed),
    ...busyLine('this run', now),
    ...(twice ? [`New processes alone change ratios by up to ${percent(restart - 1)}`] : []),
    `${verdicts.length} ratios compared, ${count('worse')} worse, ${count('better')} better, ${count('same')} within the noise`,
  ].join('\n');
}

function formatVerdict(verdict: Verdict): string {
  const { id, against, of, before, after, change } = verdict;
  const said = after.map(describe).join(', then ');
  const word = { worse: 'WORSE ', better: 'better', same: 'ok    ' }[change];
  const what = of === 'time' ? '' : ` (${of})`;
  const moved = shift(verdict);
  const sign = `${moved >= 0 ? '+' : '−'}${percent(Math.abs(moved))}`;
  return `${word} ${sign.padStart(7)}  ${id} / ${against}${what}: ${describe(before)} → ${said}`;
}

/** A run on a machine with other work is a weak witness, above all for several threads. */
function busyLine(what: string, rows: readonly Row[]): string[] {
  const groups = new Set(rows.filter(({ otherLoad = 0 }) => otherLoad > QUIET).map(({ group }) => group));
  return groups.size > 0
    ? [`Other work took over ${100 * QUIET}% of the cores in ${what}: ${[...groups].join(', ')}`]
    : [];
}

/** Of the median, by the best of the measurements. */
function shift({ before, after }: Verdict): number {
  return Math.min(...after.map((ratio) => ratio.median)) / before.median - 1;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}

function describe({ median: middle, low, high }: Ratio): string {
  return `${middle.toFixed(3)} (${low.toFixed(3)} to ${high.toFixed(3)})`;
}
