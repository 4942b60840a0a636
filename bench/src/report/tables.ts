import { LEVELS, type Level } from '../job.js';
import { rowRatios } from '../ratios.js';
import type { Row } from '../record.js';
import { measured, QUIET } from '../record.js';
import { median } from '../stats.js';
import { judge, type Outcome } from '../targets.js';

/* The rows as markdown. Every row has an anchor of its id, for links from elsewhere. */

const TITLES: Readonly<Record<Level, string>> = {
  peers: 'Peers: VGG16, the same weights and input',
  load: 'From the file to the first logits, each time in a new process',
  weights: 'Weights: memory by how VGG16 is loaded, and the reader',
  backends: 'Backends and kernel builds',
  runtimes: 'Runtimes',
  networks: 'Networks',
  scaling: 'Threads and batches',
  layers: 'Time by layer',
  kernels: 'Kernels',
  webgpu: 'WebGPU, VGG16 on a small input',
  'webgpu-full': 'WebGPU, VGG16 on the whole input',
};

/** The plots that belong to a level, without `.svg`, with what they show. */
export const PLOTS: Readonly<Partial<Record<Level, readonly (readonly [name: string, alt: string])[]>>> = {
  peers: [
    ['latency', 'Latency of every backend and peer, by threads'],
    ['peers', 'Latency of the library and its peers in every runtime'],
  ],
  webgpu: [['webgpu', 'Latency by WebGPU in every runtime']],
  'webgpu-full': [['webgpu-full', 'Latency by WebGPU on the whole input']],
  runtimes: [['runtimes', 'Latency in every runtime']],
  networks: [['networks', 'Time for an image of every network']],
  scaling: [['scaling', 'Images a second by batch and threads']],
  layers: [['layers', 'Time of every layer of VGG16']],
  kernels: [['roofline', 'Roofline of the kernels']],
};

/** Levels in the order in which a reader wants them. */
const ORDER: readonly Level[] = [
  'peers',
  'load',
  'weights',
  'webgpu',
  'webgpu-full',
  'backends',
  'runtimes',
  'networks',
  'scaling',
  'layers',
  'kernels',
];

export interface ReportOptions {
  /** Prefix of the plots' files: '' or 'quick-'. */
  readonly prefix: string;
  /** Names of the plots that were drawn. */
  readonly plots: ReadonlySet<string>;
  readonly title: string;
}

export function formatReport(rows: readonly Row[], { prefix, plots, title }: ReportOptions): string {
  const levels = ORDER.filter((level) => LEVELS.includes(level) && rows.some((row) => row.level === level));
  const sections = levels.map((level) => {
    const own = rows.filter((row) => row.level === level);
    const images = (PLOTS[level] ?? [])
      .filter(([name]) => plots.has(name))
      .map(([name, alt]) => `![${alt}](${prefix}${name}.svg)`);
    return [`## ${TITLES[level]}`, ...images, tableOf(level, own), ...ratioLines(level, own)].join('\n\n');
  });
  return `${[`# ${title}`, machineLines(rows), ...targetLines(rows), HOW_TO_READ, ...sections].join('\n\n')}\n`;
}

const HOW_TO_READ = `Median of all samples, with the smallest and the 90th percentile. *Error* is the largest distance of an output from
the reference, which is PyTorch's for whole networks and a float64 sum for kernels; ✗ marks a wrong answer. *Load* is
from having the weights' path to the first logits. GFLOP/s count two operations for each multiply-accumulate of the
direct method, so a method that needs fewer (Winograd) can pass the machine's peak. The method is in
[bench/README.md](../README.md), the samples are in the \`.jsonl\` file beside this one.`;

function machineLines(rows: readonly Row[]): string {
  const machines = new Set(rows.map(({ machine: m }) => `${m.cpu}, ${m.cores} cores, ${m.memoryGiB} GiB, ${m.os}`));
  const dates = rows.map(({ date }) => date.slice(0, 10)).sort();
  const commits = new Set(rows.map(({ commit }) => commit));
  const days = dates[0] === dates.at(-1) ? dates[0] : `${dates[0]} to ${dates.at(-1)}`;
  const most = Math.max(...rows.map(({ otherLoad = 0 }) => otherLoad));
  const busy =
    most > QUIET
      ? ` **The machine was not quiet: other work took up to ${Math.round(100 * most)}% of the cores.**`
      : '';
  return `Machine: ${[...machines].join('; ')}. Measured ${days} at commit ${[...commits].join(', ')}.${busy}`;
}

/** What the library promises, and if these rows show it. */
function targetLines(rows: readonly Row[]): string[] {
  const outcomes = judge(rows);
  if (outcomes.length === 0) return [];
  return ['## Targets', TARGETS_TEXT, table(TARGET_HEADER, outcomes.map(targetCells))];
}

const TARGETS_TEXT = `Ratios of times, or of memory, of two rows that were sampled in turn, and figures of one row: lower is better. A peak of
memory over a file is what the process grew by, from before the library was imported. *Noise* is the
interval of the median over rounds, by order statistics. A target is met if the median is at most the figure; *hardly*
says that the figure lies within the noise.`;

const TARGET_HEADER = ['target', 'rows', 'ratio', 'noise', 'must', '', 'goal', ''];

function targetCells({ target, row, against, ratio }: Outcome): string[] {
  const { must, goal } = target;
  const met = (limit: number | undefined): string => {
    if (limit === undefined) return '';
    const sure = ratio.low > limit || ratio.high <= limit;
    return `${sure ? '' : 'hardly '}${ratio.median <= limit ? 'met' : '**not met**'}`;
  };
  return [
    target.what,
    against ? `${link(row)} / ${link(against)}` : link(row),
    `**${ratio.median.toFixed(3)}**`,
    `${ratio.low.toFixed(3)} – ${ratio.high.toFixed(3)}, ${ratio.rounds} rounds`,
    `≤ ${must}`,
    met(must),
    goal === undefined ? '' : `≤ ${goal}`,
    met(goal),
  ];
}

function link({ id }: Row): string {
  return `[${id}](#${anchorName(id)})`;
}

function tableOf(level: Level, rows: readonly Row[]): string {
  if (level === 'kernels') return table(KERNEL_HEADER, rows.map(kernelCells));
  if (level === 'layers') return layersTable(rows);
  return table(FORWARD_HEADER, rows.map(forwardCells));
}

const FORWARD_HEADER = [
  'row',
  'runtime',
  'build',
  'threads',
  'median ms',
  'min – p90',
  'GFLOP/s',
  'load s',
  'peak MiB',
  'error',
];

function forwardCells(row: Row): string[] {
  const name = `${anchor(row)}${row.id.slice(row.level.length + 1)}`;
  if (!measured(row)) return [name, runtimeOf(row), row.build, String(row.threads), skipped(row), '', '', '', '', ''];
  const { loadMs, firstMs, peakMemory } = row;
  return [
    name,
    runtimeOf(row),
    buildOf(row),
    String(row.threads),
    `**${digits(row.median)}**`,
    `${digits(row.min)} – ${digits(row.p90)}`,
    row.macs > 0 ? digits(row.gflops) : '',
    loadMs === undefined || firstMs === undefined ? '' : (firstMs / 1000).toFixed(2),
    peakMemory === undefined ? '' : String(Math.round(peakMemory / 2 ** 20)),
    errorOf(row),
  ];
}

const KERNEL_HEADER = ['row', 'size', 'layers', 'median ms', 'min – p90', 'GFLOP/s', 'share of peak', 'GB/s', 'error'];

function kernelCells(row: Row): string[] {
  const [, size = ''] = row.network.match(/\((.*)\)$/) ?? [];
  const name = `${anchor(row)}${row.id.slice(row.level.length + 1)}`;
  const layers = (row.layerNames ?? []).join(', ');
  if (!measured(row)) return [name, size, layers, skipped(row), '', '', '', '', ''];
  return [
    name,
    size,
    layers,
    digits(row.median),
    `${digits(row.min)} – ${digits(row.p90)}`,
    row.macs > 0 ? digits(row.gflops) : '',
    row.shareOfPeak === undefined ? '' : `${Math.round(100 * row.shareOfPeak)}%`,
    row.bytes > 0 ? digits(row.bytes / row.median / 1e6) : '',
    row.reference === undefined ? '' : errorOf(row),
  ];
}

/** One line a layer, one column a row. */
function layersTable(rows: readonly Row[]): string {
  const ran = rows.filter(measured);
  const names = [...new Set(ran.flatMap((row) => (row.layers ?? []).map(({ name }) => name)))];
  const cell = (row: Row, name: string): string => {
    const found = row.layers?.find((layer) => layer.name === name);
    return found ? digits(median(found.samples)) : '';
  };
  const column = (row: Row): string => `${anchor(row)}${row.build}, ${row.threads} thread${row.threads > 1 ? 's' : ''}`;
  const lines = names.map((name) => [name, ...ran.map((row) => cell(row, name))]);
  const total = ['**all**', ...ran.map((row) => `**${digits(row.median)}**`)];
  const missing = rows.filter((row) => !measured(row)).map((row) => `- ${anchor(row)}\`${row.id}\`: ${skipped(row)}`);
  const parts = [ran.length > 0 ? table(['layer, ms', ...ran.map(column)], [...lines, total]) : '', missing.join('\n')];
  return parts.filter(Boolean).join('\n\n');
}

/** Of peers: how many times as long each takes as our fastest build, by paired rounds. */
function ratioLines(level: Level, rows: readonly Row[]): string[] {
  if (!['peers', 'load', 'webgpu', 'webgpu-full'].includes(level)) return [];
  const groups = [...new Set(rows.map(({ group }) => group))];
  const lines = groups.flatMap((group) => {
    const ran = rows.filter((row) => row.group === group && measured(row) && !row.wrong);
    const ours = ran.filter(({ system }) => system.name === 'vggnet').sort((a, b) => a.median - b.median)[0];
    if (!ours) return [];
    const name = (row: Row): string => `\`${row.id.slice(level.length + 1)}\``;
    return ran
      .filter(({ system }) => system.name !== 'vggnet')
      .flatMap((row) => rowRatios(row, ours).map((ratio) => ({ row, ...ratio })))
      .map(({ row, of, median: times, low, high }) => {
        const much = of === 'time' ? 'as long as' : 'the memory of';
        return `- ${name(row)} takes ${times.toFixed(2)} times ${much} ${name(ours)} (${low.toFixed(2)} to ${high.toFixed(2)})`;
      });
  });
  return lines.length > 0 ? [`By paired rounds:\n\n${lines.join('\n')}`] : [];
}

function table(header: readonly string[], lines: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.map(escapeCell).join(' | ')} |`;
  const rule = header.map((_, i) => (i === 0 ? '---' : '--:'));
  return [line(header), line(rule), ...lines.map(line)].join('\n');
}

function escapeCell(cell: string): string {
  return cell.replaceAll('|', '\\|').replaceAll('\n', ' ');
}

function anchor(row: Row): string {
  return `<a id="${anchorName(row.id)}"></a>`;
}

function anchorName(id: string): string {
  return id.replaceAll('/', '-');
}

function runtimeOf({ runtime }: Row): string {
  const name = runtime.name.replace(/\d+$/, '');
  return `${name} ${runtime.version}${runtime.flags.length > 0 ? ' *' : ''}`;
}

function buildOf({ system, build, adapter }: Row): string {
  const name = system.name === 'vggnet' ? build : `${build} ${system.version}`;
  return adapter === undefined ? name : `${name} on ${adapter}`;
}

function skipped(row: Row): string {
  return `*not run: ${row.skipped}*`;
}

function errorOf(row: Row): string {
  // An infinite error has no JSON, and is null in the file.
  const text = typeof row.error === 'number' ? row.error.toExponential(1) : row.reference ? '∞' : '';
  return row.wrong ? `✗ ${text}` : text;
}

/** Three digits, or all before the point. */
export function digits(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString('en-US') : value.toPrecision(3);
}
