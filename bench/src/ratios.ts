import { measured, type Row } from './record.js';
import { type Estimate, estimate, pairedRatios, unpairedRatio } from './stats.js';

/*
 * Times depend on the machine and on what else it does; ratios of times taken in turn hardly do. So ratios are what is
 * compared and promised.
 */

/** A time or a size over another one's from the same group: lower is better. */
export interface Ratio extends Estimate {
  /** Id of the row that is judged. */
  readonly id: string;
  /** Id of the row that it is measured against, or 'the micro-kernel' or 'reading memory'. */
  readonly against: string;
  readonly of: 'time' | 'memory';
  readonly group: string;
  readonly rounds: number;
}

/** The rows whose figures count, by group. What is paired was measured in one run. */
export function countedGroups(rows: readonly Row[]): Map<string, Row[]> {
  const groups = new Map<string, Row[]>();
  for (const row of rows) {
    if (!measured(row) || row.wrong || row.interrupted) continue;
    groups.set(row.group, [...(groups.get(row.group) ?? []), row]);
  }
  return groups;
}

/**
 * The ratios that rows have: the library's rows over each peer of their group; where a group has no peers, every row
 * over the group's first; kernels over what limits them, which was timed just before.
 */
export function ratiosOf(rows: readonly Row[]): Ratio[] {
  return [...countedGroups(rows).values()].flatMap(groupRatios);
}

function groupRatios(rows: readonly Row[]): Ratio[] {
  const kernels = rows.filter(({ peakSamples }) => peakSamples && peakSamples.length > 0);
  if (kernels.length > 0) return kernels.filter(({ macs }) => macs > 0).map(kernelRatio);
  const peers = rows.filter(({ system }) => system.name !== 'vggnet');
  const ours = rows.filter(({ system }) => system.name === 'vggnet');
  const baselines = peers.length > 0 ? peers : rows.slice(0, 1);
  return ours.flatMap((row) =>
    baselines.filter((baseline) => baseline !== row).flatMap((baseline) => rowRatios(row, baseline)),
  );
}

/** Of two rows of a group and run, by rounds; `scale` is for times of unequal work. */
export function rowRatios(row: Row, baseline: Row, scale = 1): Ratio[] {
  if (row.run !== baseline.run) return [];
  const ratio = (of: Ratio['of'], a: readonly number[], b: readonly number[], factor: number): Ratio => {
    const ratios = pairedRatios(a, b).map((value) => value * factor);
    return { id: row.id, against: baseline.id, of, group: row.group, rounds: ratios.length, ...estimate(ratios) };
  };
  const time = ratio('time', row.samples, baseline.samples, scale);
  return row.peaks && baseline.peaks ? [time, ratio('memory', row.peaks, baseline.peaks, 1)] : [time];
}

function kernelRatio(row: Row): Ratio {
  // Times of as many multiply-accumulates, or bytes, as the kernel does.
  const scale = row.peakBytes ? row.bytes / row.peakBytes : row.macs / (row.peakMacs ?? row.macs);
  const peak = (row.peakSamples ?? []).map((ms) => ms * scale);
  const rounds = Math.min(row.samples.length, peak.length);
  const { id, group, samples } = row;
  return {
    id,
    against: row.peakBytes ? 'reading memory' : 'the micro-kernel',
    of: 'time',
    group,
    rounds,
    ...unpairedRatio(samples, peak),
  };
}
