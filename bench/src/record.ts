import { appendFileSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Level } from './job.js';
import type { Machine } from './machine.js';

export { gflopsOf, summarise } from './summarise.js';

/** One measurement, or why there is none: a line of JSON in results/. Times are milliseconds, sizes bytes. */
export interface Row {
  /** `level/…`, the same in every run of the suite. */
  readonly id: string;
  readonly level: Level;
  /** Rows of one group and run were sampled in turn: sample i of each is of round i. */
  readonly group: string;
  readonly date: string;
  /** When the run began: only rows of one run are paired. */
  readonly run?: string | undefined;
  /** The library's commit, with `-dirty` if files were changed since. */
  readonly commit: string;
  readonly machine: Machine;
  readonly runtime: { readonly name: string; readonly version: string; readonly flags: readonly string[] };
  readonly system: { readonly name: string; readonly version: string };
  readonly backend: string;
  /** Kernel build or execution provider. */
  readonly build: string;
  readonly threads: number;
  readonly network: string;
  /** Of the weights, where it is not fp32. */
  readonly precision?: string;
  readonly batch: number;
  readonly input: readonly number[];
  /** Forwards before the first sample; the one that ended the load is another. */
  readonly warmup: number;
  /** All of them, in the order taken (kernels: sorted, as tinybench gives them). */
  readonly samples: readonly number[];
  readonly median: number;
  readonly min: number;
  readonly p90: number;
  /** Multiply-accumulates of the direct method for one sample; GFLOP/s counts two operations for each. */
  readonly macs: number;
  readonly gflops: number;
  /** What a sample must at least read and write: weights, and each layer's input and output once. */
  readonly bytes: number;
  readonly peakMemory?: number | undefined;
  /** Of rows whose samples are processes: the peak of each. */
  readonly peaks?: readonly number[] | undefined;
  /** Of rows whose samples are processes: the most memory before the system was imported, of the first. */
  readonly baseMemory?: number | undefined;
  /** The same rows, and of the reader: the size of the file of weights. */
  readonly fileBytes?: number | undefined;
  /** Of WebGPU: the adapter by its own words, and if it computes on the CPU. */
  readonly adapter?: string | undefined;
  readonly loadMs?: number | undefined;
  /** From having the file's path to the first logits. */
  readonly firstMs?: number | undefined;
  /** The largest |output − reference|. */
  readonly error?: number | undefined;
  /** What the reference is. */
  readonly reference?: string | undefined;
  /** True if the error is over the tolerance: the time is worth nothing then. */
  readonly wrong?: boolean | undefined;
  /** Kernels: the rate as a share of what limits them, taken just before: the bare micro-kernel, or a read of memory. */
  readonly shareOfPeak?: number | undefined;
  readonly peakSamples?: readonly number[] | undefined;
  /** Of one of `peakSamples`: its multiply-accumulates, or its bytes. */
  readonly peakMacs?: number | undefined;
  readonly peakBytes?: number | undefined;
  /** Layers: each one's samples. */
  readonly layers?: readonly LayerSamples[] | undefined;
  /** Kernels: the layers of VGG16 that have this shape. */
  readonly layerNames?: readonly string[] | undefined;
  /** The share of the cores that other work took just before the group: over 0.1 the machine was not quiet. */
  readonly otherLoad?: number | undefined;
  /** Set if the run was stopped before all samples were taken. */
  readonly interrupted?: boolean | undefined;
  /** Why there is no measurement. */
  readonly skipped?: string | undefined;
}

/** With less other work than this a machine counts as quiet. */
export const QUIET = 0.1;

export interface LayerSamples {
  readonly name: string;
  readonly macs: number;
  readonly bytes: number;
  readonly samples: readonly number[];
}

/** True if the row was measured. */
export function measured(row: Row): boolean {
  return row.skipped === undefined && row.samples.length > 0;
}

/**
 * Rows in a file of JSON lines. A row is on the disk as soon as it is added, so that an interrupted run keeps what it
 * has; `close` drops the rows that later ones with the same id have replaced, and those that no plan has any more.
 */
export class RowFile {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
    mkdirSync(dirname(path), { recursive: true });
  }

  add(row: Row): void {
    appendFileSync(this.path, `${JSON.stringify(row)}\n`);
  }

  /** @param planned tells the ids that there still are; default all */
  close(planned: (id: string) => boolean = () => true): void {
    if (!existsSync(this.path)) return;
    const rows = readRows(this.path).filter(({ id }) => planned(id));
    const lines = rows.map((row) => `${JSON.stringify(row)}\n`);
    writeFileSync(`${this.path}.new`, lines.join(''));
    renameSync(`${this.path}.new`, this.path);
  }
}

/** The last row of each id, in the order of the ids' first appearance. Half a line at the end is passed over. */
export function readRows(path: string): Row[] {
  if (!existsSync(path)) return [];
  const rows = new Map<string, Row>();
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    const row = parse(line);
    if (row) rows.set(row.id, row);
  }
  return [...rows.values()];
}

function parse(line: string): Row | undefined {
  try {
    // NaN has no JSON; rows without samples have null there.
    const row = JSON.parse(line) as Row;
    return typeof row?.id === 'string' ? row : undefined;
  } catch {
    return undefined;
  }
}
