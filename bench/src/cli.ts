import { rmSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { compareRows, formatVerdicts, restartNoise, suspects } from './check.js';
import { Files } from './files.js';
import { type MainRuntime, nodeRuntime } from './groups.js';
import { LEVELS, type Level, ON_REQUEST } from './job.js';
import { describeCommit, describeMachine, otherLoad } from './machine.js';
import { type Group, makePlan, select } from './plan.js';
import { measured, type Row, RowFile, readRows } from './record.js';
import { createRuntimes, MACHINE_NODE } from './runtimes/index.js';
import { servePage } from './runtimes/visitor.js';
import type { Runtime } from './session.js';
import { Suite, type SuiteFiles } from './suite.js';

interface Options {
  readonly quick?: true;
  readonly check?: true;
  readonly list?: true;
  readonly redraw?: true;
  readonly report?: boolean;
  readonly results?: string;
  readonly page?: true | number;
  readonly only: readonly Level[];
  readonly rows: readonly string[];
  readonly samples?: number;
}

/** Of the machine's memory for each process that waits: VGG16 takes 0.6 GiB, in a browser twice that. */
const WAITING_BYTES = 1.6 * 2 ** 30;

const EXAMPLES = `
Examples:
  npm run bench                                  everything, and the report (about 12 minutes on 2 cores)
  npm run bench -- --quick                       the comparisons that matter most (under 2 minutes)
  npm run bench -- --only peers                  one level
  npm run bench -- --rows peers/tfjs-wasm/t1     one row; fails if it can't be measured
  npm run bench -- --only webgpu-full            VGG16 at 224×224 by WebGPU: many minutes without a GPU
  npm run bench -- --check                       are the ratios as good as those committed?

Exit codes: 0 done, and every row named with --rows was measured; 1 one of them was not or was wrong, an answer of the
library was wrong, or a ratio became worse; 2 wrong use; 130 interrupted (the rows measured so far are kept).`;

/** What the command measures with; tests put their own in its place. */
export interface Context {
  readonly benchFolder: string;
  readonly runtimes: ReadonlyMap<string, Runtime>;
  readonly files: SuiteFiles;
  /** The share of the cores that other work takes. */
  readonly otherLoad: () => Promise<number>;
  /** Stops a run, as an interrupt at the terminal does. */
  readonly signal?: AbortSignal;
}

export function createContext(benchFolder: string): Context {
  const runtimes = createRuntimes(benchFolder);
  const files = new Files(benchFolder, runtimes.get(MACHINE_NODE) as Runtime);
  return { benchFolder, runtimes, files, otherLoad };
}

/** The suite's command. Gives the exit code. */
export async function main(argv: readonly string[], context: Context): Promise<number> {
  const command = new Command('bench')
    .description("Measures vggnet's backends, runtimes and peers, and writes bench/results/")
    .option('--quick', 'fewer rows and samples: results/quick.jsonl')
    .option('--check', 'measure the quick rows, and compare their ratios with those in results/quick.jsonl')
    .option(
      '--only <levels>',
      `levels, with commas: ${LEVELS.join(', ')}; ${ON_REQUEST.join(' and ')} run only so`,
      parseLevels,
      [],
    )
    .option('--rows <names...>', 'rows by id, or by the beginning of an id up to a slash', [])
    .option('--samples <number>', 'samples of a row, in place of its own number', parseCount)
    .option('--results <folder>', 'where rows, tables and plots are written, in place of bench/results')
    .option('--list', 'print the ids of the rows, and measure nothing')
    .option('--redraw', 'redraw the tables and plots from the existing rows, without measuring')
    .option('--no-report', 'write rows, and leave the tables and plots as they are')
    .option(
      '--page [port]',
      'serve the page that measures a browser of your choice, and measure nothing here',
      parsePort,
    )
    .addHelpText('after', EXAMPLES)
    .allowExcessArguments(false)
    .exitOverride();
  try {
    command.parse(argv, { from: 'user' });
  } catch (error) {
    return error instanceof CommanderError && error.exitCode === 0 ? 0 : 2;
  }
  return run(command.opts<Options>(), context);
}

async function run(options: Options, context: Context): Promise<number> {
  const { benchFolder, runtimes } = context;
  if (options.page !== undefined) return servePage(benchFolder, options.page === true ? 8080 : options.page);
  const quick = Boolean(options.quick || options.check);
  const plan = makePlan({
    quick,
    cores: availableParallelism(),
    runtime: await mainRuntime(runtimes),
    samples: options.samples,
  });
  const { groups, unknown } = select(plan, options.only, options.rows);
  if (unknown.length > 0) {
    console.error(`No row is called ${unknown.join(' or ')}${quick ? ' in a quick run' : ''}; --list prints the names`);
    return 2;
  }
  if (groups.length === 0) {
    console.error(`Nothing to measure: ${quick ? 'a quick run has' : 'there are'} no such rows`);
    return 2;
  }
  if (options.list) {
    for (const { rows } of groups) for (const { id } of rows) console.log(id);
    return 0;
  }
  const results = options.results === undefined ? join(benchFolder, 'results') : resolve(options.results);
  if (options.redraw) {
    await report(results, options);
    return 0;
  }
  if (options.check) return check(groups, context, results);
  const ids = new Set(plan.flatMap(({ rows }) => rows.map(({ id }) => id)));
  return measure(groups, context, results, options, (id) => ids.has(id));
}

async function measure(
  groups: Group[],
  context: Context,
  results: string,
  options: Options,
  planned: (id: string) => boolean,
): Promise<number> {
  const file = new RowFile(rowsPath(results, options));
  const rows: Row[] = [];
  const interrupted = await measureInto(groups, context, file, rows);
  // A run of everything is the place to forget rows that the suite, or this machine, no longer has.
  const whole = options.only.length === 0 && options.rows.length === 0 && !interrupted;
  file.close(whole ? planned : undefined);
  if (interrupted) {
    console.error(`Interrupted: ${rows.length} rows are kept in ${file.path}`);
    return 130;
  }
  if (options.report !== false) await report(results, options);
  return summariseRun(rows, options.rows.length > 0);
}

/** The Node that bench/package.json pins, so that machines differ in less; the one that runs this if it is missing. */
async function mainRuntime(runtimes: Context['runtimes']): Promise<MainRuntime> {
  const pinned = await runtimes
    .get('node24')
    ?.find()
    .catch(() => undefined);
  return pinned ? nodeRuntime('node24', pinned.version) : nodeRuntime(MACHINE_NODE, process.versions.node);
}

function rowsPath(results: string, { quick }: Options): string {
  return join(results, quick ? 'quick.jsonl' : 'full.jsonl');
}

async function report(results: string, options: Options): Promise<void> {
  // Drawing brings large packages, which nothing else needs.
  const { writeReport } = await import('./report/write.js');
  await writeReport(results, readRows(rowsPath(results, options)), options.quick ? 'quick' : 'full');
}

function summariseRun(rows: readonly Row[], named: boolean): number {
  const missing = rows.filter((row) => !measured(row));
  const wrong = rows.filter((row) => row.wrong);
  console.log(`${rows.length - missing.length} rows measured, ${missing.length} skipped, ${wrong.length} wrong`);
  for (const row of wrong) console.error(`Wrong answer: ${row.id} is off by ${row.error}`);
  if (named) for (const row of missing) console.error(`Not measured: ${row.id}: ${row.skipped}`);
  // A peer's wrong answer is a finding of a run that did not ask for it.
  const failed = wrong.filter((row) => named || row.system.name === 'vggnet');
  return failed.length > 0 || (named && missing.length > 0) ? 1 : 0;
}

async function check(groups: Group[], context: Context, results: string): Promise<number> {
  const { benchFolder } = context;
  const from = join(results, 'quick.jsonl');
  const committed = readRows(from);
  if (committed.length === 0) {
    console.error(`There is nothing to compare with: ${from} has no rows. Make them with --quick.`);
    return 2;
  }
  const path = join(benchFolder, '.cache/check.jsonl');
  rmSync(path, { force: true });
  const file = new RowFile(path);
  const rows: Row[] = [];
  if (await measureInto(groups, context, file, rows)) return 130;
  const second: Row[] = [];
  let verdicts = compareRows(committed, rows);
  const again = groups.filter(({ id }) => suspects(verdicts).includes(id));
  if (again.length > 0) {
    console.log(`Worse at first sight in ${again.map(({ id }) => id).join(', ')}: measured again in new processes`);
    if (await measureInto(again, context, file, second)) return 130;
    verdicts = compareRows(committed, rows, second);
  }
  console.log(formatVerdicts(verdicts, committed, rows, restartNoise(rows, second)));
  return verdicts.some(({ change }) => change === 'worse') ||
    rows.some(({ wrong, system }) => wrong && system.name === 'vggnet')
    ? 1
    : 0;
}

/** Measures, with every row put into the file and the list at once. True if the user interrupted it. */
async function measureInto(groups: Group[], context: Context, file: RowFile, rows: Row[]): Promise<boolean> {
  const { benchFolder, runtimes, files, otherLoad: load } = context;
  const controller = new AbortController();
  const stop = (): void => {
    // A second one means it.
    if (controller.signal.aborted) process.exit(130);
    console.error('Interrupted: ending the processes');
    controller.abort();
  };
  context.signal?.addEventListener('abort', stop, { once: true });
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  try {
    const suite = new Suite({
      runtimes,
      files,
      commit: describeCommit(join(benchFolder, '..')),
      machine: describeMachine(),
      otherLoad: load,
      signal: controller.signal,
      onRow: (row) => {
        rows.push(row);
        file.add(row);
      },
      log: (line) => console.log(line),
      waiting: Math.floor(totalmem() / WAITING_BYTES),
    });
    await suite.run(groups);
  } finally {
    context.signal?.removeEventListener('abort', stop);
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
  }
  return controller.signal.aborted;
}

function parseLevels(text: string): Level[] {
  const levels = text.split(',').map((level) => level.trim());
  for (const level of levels) {
    if (!LEVELS.includes(level as Level)) {
      throw new InvalidArgumentError(`'${level}' is none of ${LEVELS.join(', ')}.`);
    }
  }
  return levels as Level[];
}

function parseCount(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1 || count > 1000) {
    throw new InvalidArgumentError(`expected an integer from 1 to 1000, got '${text}'.`);
  }
  return count;
}

function parsePort(text: string): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new InvalidArgumentError(`expected a port from 0 to 65535, got '${text}'.`);
  }
  return port;
}
