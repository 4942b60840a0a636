import { rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { compareRows, formatVerdicts, suspects } from './check.js';
import { Files } from './files.js';
import { LEVELS, type Level } from './job.js';
import { describeCommit, describeMachine, otherLoad } from './machine.js';
import { type Group, type MainRuntime, makePlan, nodeRuntime, select } from './plan.js';
import { measured, type Row, RowFile, readRows } from './record.js';
import { createRuntimes, MACHINE_NODE } from './runtimes/index.js';
import { servePage } from './runtimes/visitor.js';
import { Suite } from './suite.js';

interface Options {
  readonly quick?: true;
  readonly check?: true;
  readonly list?: true;
  readonly redraw?: true;
  readonly report?: boolean;
  readonly page?: true | number;
  readonly only: readonly Level[];
  readonly rows: readonly string[];
  readonly samples?: number;
}

const EXAMPLES = `
Examples:
  npm run bench                                  everything, and the report (about 12 minutes on 2 cores)
  npm run bench -- --quick                       the comparisons that matter most (under 2 minutes)
  npm run bench -- --only peers                  one level
  npm run bench -- --rows peers/tfjs-wasm/t1     one row; fails if it can't be measured
  npm run bench -- --check                       are the ratios as good as those committed?

Exit codes: 0 done, and every row named with --rows was measured; 1 one of them was not, an answer was wrong, or a
ratio became worse; 2 wrong use; 130 interrupted (the rows measured so far are kept).`;

/** The suite's command. Gives the exit code. */
export async function main(argv: readonly string[], benchFolder: string): Promise<number> {
  const command = new Command('bench')
    .description("Measures vggnet's backends, runtimes and peers, and writes bench/results/")
    .option('--quick', 'fewer rows and samples: results/quick.jsonl')
    .option('--check', 'measure the quick rows, and compare their ratios with those in results/quick.jsonl')
    .option('--only <levels>', `levels, with commas: ${LEVELS.join(', ')}`, parseLevels, [])
    .option('--rows <names...>', 'rows by id, or by the beginning of an id up to a slash', [])
    .option('--samples <number>', 'samples of a row, in place of its own number', parseCount)
    .option('--list', 'print the ids of the rows, and measure nothing')
    .option('--redraw', 'make the tables and plots anew from the rows that are there, and measure nothing')
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
  return run(command.opts<Options>(), benchFolder);
}

async function run(options: Options, benchFolder: string): Promise<number> {
  if (options.page !== undefined) return servePage(benchFolder, options.page === true ? 8080 : options.page);
  const quick = Boolean(options.quick || options.check);
  const runtimes = createRuntimes(benchFolder);
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
  if (options.list) {
    for (const { rows } of groups) for (const { id } of rows) console.log(id);
    return 0;
  }
  const results = join(benchFolder, 'results');
  if (options.redraw) {
    await report(results, options);
    return 0;
  }
  return options.check ? check(groups, benchFolder, results) : measure(groups, benchFolder, results, options);
}

async function measure(groups: Group[], benchFolder: string, results: string, options: Options): Promise<number> {
  const file = new RowFile(rowsPath(results, options));
  const rows: Row[] = [];
  const interrupted = await measureInto(groups, benchFolder, file, rows);
  file.close();
  if (interrupted) {
    console.error(`Interrupted: ${rows.length} rows are kept in ${file.path}`);
    return 130;
  }
  if (options.report !== false) await report(results, options);
  return summariseRun(rows, options.rows.length > 0);
}

/** The Node that bench/package.json pins, so that machines differ in less; the one that runs this if it is missing. */
async function mainRuntime(runtimes: ReturnType<typeof createRuntimes>): Promise<MainRuntime> {
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
  return wrong.length > 0 || (named && missing.length > 0) ? 1 : 0;
}

async function check(groups: Group[], benchFolder: string, results: string): Promise<number> {
  const committed = readRows(join(results, 'quick.jsonl'));
  if (committed.length === 0) {
    console.error('There is nothing to compare with: results/quick.jsonl has no rows. Make them with --quick.');
    return 2;
  }
  const path = join(benchFolder, '.cache/check.jsonl');
  rmSync(path, { force: true });
  const file = new RowFile(path);
  const rows: Row[] = [];
  if (await measureInto(groups, benchFolder, file, rows)) return 130;
  let verdicts = compareRows(committed, rows);
  const again = groups.filter(({ id }) => suspects(verdicts).includes(id));
  if (again.length > 0) {
    console.log(`Worse at first sight in ${again.map(({ id }) => id).join(', ')}: measured again in new processes`);
    const second: Row[] = [];
    if (await measureInto(again, benchFolder, file, second)) return 130;
    verdicts = compareRows(committed, rows, second);
  }
  console.log(formatVerdicts(verdicts, committed, rows));
  return verdicts.some(({ worse }) => worse) || rows.some(({ wrong }) => wrong) ? 1 : 0;
}

/** Measures, with every row put into the file and the list at once. True if the user interrupted it. */
async function measureInto(groups: Group[], benchFolder: string, file: RowFile, rows: Row[]): Promise<boolean> {
  const controller = new AbortController();
  const stop = (): void => {
    // A second one means it.
    if (controller.signal.aborted) process.exit(130);
    console.error('Interrupted: ending the processes');
    controller.abort();
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  try {
    const suite = new Suite({
      runtimes: createRuntimes(benchFolder),
      files: new Files(benchFolder),
      commit: describeCommit(join(benchFolder, '..')),
      machine: describeMachine(),
      otherLoad,
      signal: controller.signal,
      onRow: (row) => {
        rows.push(row);
        file.add(row);
      },
      log: (line) => console.log(line),
    });
    await suite.run(groups);
  } finally {
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
