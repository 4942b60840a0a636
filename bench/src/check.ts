import { measured, QUIET, type Row } from './record.js';
import { type Estimate, estimate, pairedRatios, unpairedRatio } from './stats.js';

/*
 * Are we as fast as we were, compared with others? Times depend on the machine and on what else it does; ratios of
 * times taken in turn hardly do. So only ratios are compared, each within the noise that its own samples show.
 */

/** A time over another one's from the same group: lower is better. */
export interface Ratio extends Estimate {
  /** Id of the row whose speed is judged. */
  readonly id: string;
  /** Id of the row that it is measured against, or 'the micro-kernel'. */
  readonly against: string;
  readonly group: string;
  readonly rounds: number;
}

/** What became of one ratio. */
export interface Verdict {
  readonly id: string;
  readonly against: string;
  readonly group: string;
  readonly before: Ratio;
  /** One for each time that it was measured. */
  readonly after: readonly Ratio[];
  /** True if all of `after` are over `before` by more than both intervals. */
  readonly worse: boolean;
}

/**
 * The ratios that rows have: the library's rows over each peer of their group; where a group has no peers, every row
 * over the group's first; kernels over the micro-kernel that was timed just before.
 */
export function ratiosOf(rows: readonly Row[]): Ratio[] {
  const groups = new Map<string, Row[]>();
  for (const row of rows) {
    if (!measured(row) || row.wrong || row.interrupted) continue;
    groups.set(row.group, [...(groups.get(row.group) ?? []), row]);
  }
  return [...groups.entries()].flatMap(([group, members]) => groupRatios(group, members));
}

function groupRatios(group: string, rows: readonly Row[]): Ratio[] {
  const kernels = rows.filter(({ peakSamples }) => peakSamples && peakSamples.length > 0);
  if (kernels.length > 0) {
    return kernels
      .filter(({ macs }) => macs > 0)
      .map((row) => {
        // Times of as many multiply-accumulates as the kernel does.
        const scale = row.macs / (row.peakMacs ?? row.macs);
        const peak = (row.peakSamples ?? []).map((ms) => ms * scale);
        const rounds = Math.min(row.samples.length, peak.length);
        return { id: row.id, against: 'the micro-kernel', group, rounds, ...unpairedRatio(row.samples, peak) };
      });
  }
  const peers = rows.filter(({ system }) => system.name !== 'vggnet');
  const ours = rows.filter(({ system }) => system.name === 'vggnet');
  const baselines = peers.length > 0 ? peers : rows.slice(0, 1);
  return ours.flatMap((row) =>
    baselines
      .filter((baseline) => baseline !== row)
      .map((baseline) => {
        const ratios = pairedRatios(row.samples, baseline.samples);
        return { id: row.id, against: baseline.id, group, rounds: ratios.length, ...estimate(ratios) };
      }),
  );
}

/** Compares the ratios that both runs have. `again` is a second measurement, of the groups that looked worse. */
export function compareRows(committed: readonly Row[], now: readonly Row[], again: readonly Row[] = []): Verdict[] {
  const key = ({ id, against }: Ratio): string => `${id} ${against}`;
  const index = (rows: readonly Row[]): Map<string, Ratio> => new Map(ratiosOf(rows).map((one) => [key(one), one]));
  const [first, second] = [index(now), index(again)];
  return ratiosOf(committed).flatMap((before) => {
    const after = [first.get(key(before)), second.get(key(before))].filter((ratio) => ratio !== undefined);
    if (after.length === 0) return [];
    const { id, against, group } = before;
    return [{ id, against, group, before, after, worse: after.every(({ low }) => low > before.high) }];
  });
}

/** The groups of what looks worse. */
export function suspects(verdicts: readonly Verdict[]): string[] {
  return [...new Set(verdicts.filter(({ worse }) => worse).map(({ group }) => group))];
}

const HOW = `Each ratio is a time over another's, so lower is better. Systems are sampled in turn, and a ratio is the median of
those of single rounds, with its interval from order statistics (95% from 6 rounds on; the whole range under that).
Kernels are timed apart from the micro-kernel, and their ratio's interval is that of the two intervals' ends. A ratio
is worse if its interval lies wholly above the committed one, and does so again in new processes.`;

/** The verdicts as text, worst first, with how they were reached. */
export function formatVerdicts(verdicts: readonly Verdict[], committed: readonly Row[], now: readonly Row[]): string {
  const lines = [...verdicts]
    .sort((a, b) => change(b) - change(a))
    .map((verdict) => {
      const { id, against, before, after, worse } = verdict;
      const said = after.map(describe).join(', then ');
      const sign = `${change(verdict) >= 0 ? '+' : '−'}${Math.abs(100 * change(verdict)).toFixed(1)}%`;
      return `${worse ? 'WORSE' : 'ok   '} ${sign.padStart(7)}  ${id} / ${against}: ${describe(before)} → ${said}`;
    });
  const worse = verdicts.filter((verdict) => verdict.worse).length;
  const cpus = [committed, now].map((rows) => rows[0]?.machine.cpu ?? 'unknown');
  const other = cpus[0] === cpus[1] ? [] : [`Committed on ${cpus[0]}, this is ${cpus[1]}: ratios may differ for that.`];
  return [
    HOW,
    '',
    ...lines,
    '',
    ...other,
    ...busyLine('the committed run', committed),
    ...busyLine('this run', now),
    `${verdicts.length} ratios compared, ${worse} worse`,
  ].join('\n');
}

/** A run on a machine with other work is a weak witness, above all for several threads. */
function busyLine(what: string, rows: readonly Row[]): string[] {
  const groups = new Set(rows.filter(({ otherLoad = 0 }) => otherLoad > QUIET).map(({ group }) => group));
  return groups.size > 0
    ? [`Other work took over ${100 * QUIET}% of the cores in ${what}: ${[...groups].join(', ')}`]
    : [];
}

/** Of the median, by the best of the measurements. */
function change({ before, after }: Verdict): number {
  return Math.min(...after.map(({ median }) => median)) / before.median - 1;
}

function describe({ median, low, high }: Ratio): string {
  return `${median.toFixed(3)} (${low.toFixed(3)} to ${high.toFixed(3)})`;
}
