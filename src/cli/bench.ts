import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { throwIfAborted } from '../errors.js';
import type { DeviceName } from '../model/options.js';
import { type Latency, measureLatency } from './latency.js';
import { type ModelChoice, parseModel } from './model.js';
import { formatTable, print, printable, printJson } from './output.js';

export interface BenchFlags {
  readonly device: DeviceName;
  readonly batch: number;
  readonly size?: number;
  readonly samples: number;
  readonly warmup: number;
  readonly json?: boolean;
}

/** `vggnet bench`. Several models run each in a process of its own, so that the peak of memory is each one's own. */
export async function bench(models: readonly string[], flags: BenchFlags, signal: AbortSignal): Promise<number> {
  const choices = models.map(parseModel);
  const results: Latency[] = [];
  let exitCode = 0;
  if (choices.length === 1) {
    results.push(await measureLatency(choices[0] as ModelChoice, { ...flags, size: flags.size, signal }));
  } else {
    for (const model of models) {
      const outcome = await benchInChild(model, flags, signal);
      if (outcome.result) results.push(outcome.result);
      exitCode ||= outcome.exitCode;
    }
  }
  const { batch, samples, warmup } = flags;
  if (flags.json) printJson({ batch, samples, warmup, results });
  else if (results.length > 0) print(formatResults(results));
  return exitCode;
}

/** The child has reported its own failure on stderr. */
async function benchInChild(
  model: string,
  flags: BenchFlags,
  signal: AbortSignal,
): Promise<{ result?: Latency; exitCode: number }> {
  throwIfAborted(signal);
  const { device, batch, size, samples, warmup } = flags;
  const options = { device, batch, size, samples, warmup };
  const args = Object.entries(options).flatMap(([name, value]) =>
    value === undefined ? [] : [`--${name}`, `${value}`],
  );
  const command = [...process.execArgv, process.argv[1] as string, 'bench', '--json', ...args, '--', model];
  const child = spawn(process.execPath, command, { stdio: ['ignore', 'pipe', 'inherit'], signal });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    text += part;
  });
  try {
    const [code] = (await once(child, 'close')) as [number | null];
    if (code === 0) return { result: JSON.parse(text).results[0] as Latency, exitCode: 0 };
    return { exitCode: code ?? 1 };
  } catch (error) {
    throwIfAborted(signal);
    throw error;
  }
}

function formatResults(results: readonly Latency[]): string {
  const heading = ['model', 'device', 'build', 'threads', 'input', 'load ms', 'median ms', 'min ms', 'p90 ms'];
  const rows = results.map(({ model, device, inputShape, loadMs, forwardMs, gflops, peakRss }) => [
    printable(model),
    device.backend,
    device.build || '-',
    String(device.threads),
    inputShape.join('x'),
    loadMs.toFixed(0),
    ...[forwardMs.median, forwardMs.min, forwardMs.p90].map((ms) => ms.toFixed(ms < 100 ? 2 : 0)),
    gflops.toFixed(1),
    (peakRss / 2 ** 20).toFixed(0),
  ]);
  return formatTable([[...heading, 'GFLOP/s', 'peak RSS MiB'], ...rows], 3);
}
