import { numel } from '../../src/tensor.js';
import {
  backendGroups,
  kernelGroups,
  layerGroups,
  loadGroups,
  type MainRuntime,
  networkGroups,
  peerGroups,
  RowMaker,
  runtimeGroups,
  scalingGroups,
  webgpuGroups,
  weightGroups,
} from './groups.js';
import { type Job, type Level, ON_REQUEST } from './job.js';
import { layerCosts, QUICK_NETWORK } from './network.js';

/** A row to be measured. Its id says everything that tells it from the others. */
export interface RowPlan {
  readonly id: string;
  readonly level: Level;
  /**
   * What a sample is: a forward, a forward cut into its layers, calls of a kernel, a process up to its first logits, or all
   * values of a file of weights read.
   */
  readonly kind: 'forward' | 'layers' | 'kernel' | 'load' | 'reader';
  /** A name in runtimes/index.ts. */
  readonly runtime: string;
  readonly flags: readonly string[];
  readonly job: Omit<Job, 'files'>;
  readonly warmup: number;
  readonly samples: number;
  readonly macs: number;
  readonly bytes: number;
  readonly input: readonly number[];
  /** The longest that a load or a forward may take, where it is not the suite's own limit. */
  readonly timeoutMs?: number;
  /** Of the kernels' level: the case's name and what the table calls it. */
  readonly kernel?: { readonly name: string; readonly shape: string; readonly layers: readonly string[] };
}

/** Rows whose samples are taken in turn, A B C A B C, so that what disturbs the machine disturbs all of them. */
export interface Group {
  readonly id: string;
  readonly rows: readonly RowPlan[];
}

export interface PlanOptions {
  readonly quick: boolean;
  /** Cores that may be used. */
  readonly cores: number;
  /** What runs every row but those that compare runtimes. */
  readonly runtime: MainRuntime;
  /** In place of every row's own number. */
  readonly samples?: number | undefined;
}

/** Everything that the suite can measure, in order. */
export function makePlan(options: PlanOptions): Group[] {
  const { quick, samples, cores } = options;
  const threads = cores > 1 ? [1, cores] : [1];
  const make = quick ? new RowMaker(options.runtime, QUICK_NETWORK) : new RowMaker(options.runtime);
  const groups = [
    ...kernelGroups(make, quick),
    ...(quick ? [] : layerGroups(make, threads)),
    ...networkGroups(make, quick, threads),
    ...(quick ? [] : backendGroups(make, threads)),
    ...runtimeGroups(make, quick, threads),
    ...peerGroups(make, quick, threads),
    ...(quick ? [] : loadGroups(make)),
    ...(quick ? [] : weightGroups(make)),
    ...(quick ? [] : scalingGroups(make, cores)),
    ...(quick ? [] : webgpuGroups(make)),
  ];
  if (samples === undefined) return groups;
  return groups.map((group) => ({ ...group, rows: group.rows.map((row) => ({ ...row, samples })) }));
}

/** Bytes that a step of a profile must move: fused layers, such as `conv1_1+relu1_1`, keep what lies between them. */
export function stepBytes(job: Omit<Job, 'files'>, name: string): number {
  const names = name.split('+');
  const costs = layerCosts(job.model, job.batch, job.size);
  const [first, last] = [names[0], names.at(-1)].map((one) => costs.find(({ layer }) => layer.name === one));
  return first && last ? first.bytes + 4 * (numel(last.outShape) - numel(first.outShape)) : 0;
}

/**
 * The rows that were asked for: `only` names levels, `names` rows, by id or the beginning of one up to a slash.
 * Without either it is all but the levels that run on request. `unknown` are names that match nothing.
 */
export function select(
  groups: readonly Group[],
  only: readonly Level[],
  names: readonly string[],
): { groups: Group[]; unknown: string[] } {
  const matches = (id: string, name: string): boolean => id === name || id.startsWith(`${name.replace(/\/$/, '')}/`);
  const wanted = ({ id, level }: RowPlan): boolean => {
    if (only.length > 0 && !only.includes(level)) return false;
    if (names.length > 0) return names.some((name) => matches(id, name));
    return only.length > 0 || !ON_REQUEST.includes(level);
  };
  const chosen = groups.map((group) => ({ ...group, rows: group.rows.filter(wanted) }));
  const ids = groups.flatMap(({ rows }) => rows.map(({ id }) => id));
  return {
    groups: chosen.filter(({ rows }) => rows.length > 0),
    unknown: names.filter((name) => !ids.some((id) => matches(id, name))),
  };
}
