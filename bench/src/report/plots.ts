import type { TopLevelSpec } from 'vega-lite';
import type { Level } from '../job.js';
import type { Row } from '../record.js';
import { measured } from '../record.js';
import { median, quantile } from '../stats.js';
import {
  bar,
  bars,
  base,
  byPanel,
  COLOURS,
  machine,
  OURS,
  OURS_LIGHT,
  SPREAD,
  THEIRS,
  threads,
  WIDTH,
} from './bars.js';

/* The plots, as vega-lite says them: data and marks. A plot that has no rows is left out. */

type Position = { field: string; type: 'quantitative'; title: string; scale: { type: 'log'; domain: number[] } };

export function makePlots(rows: readonly Row[]): Map<string, TopLevelSpec> {
  const good = rows.filter((row) => measured(row) && !row.wrong);
  const plots = new Map<string, TopLevelSpec | undefined>([
    ['latency', latency(good)],
    ['peers', peers(good)],
    ['webgpu', webgpu(good, 'webgpu')],
    ['webgpu-full', webgpu(good, 'webgpu-full')],
    ['runtimes', runtimes(good)],
    ['networks', networks(good)],
    ['scaling', scaling(good)],
    ['layers', layers(good)],
    ['roofline', roofline(good)],
  ]);
  return new Map([...plots].filter((entry): entry is [string, TopLevelSpec] => entry[1] !== undefined));
}

/** In the Node that all are compared in. */
function latency(rows: readonly Row[]): TopLevelSpec | undefined {
  return systems(rows, /^peers\/t\d+$/, 'VGG16 on one image of 224×224, float32', threads);
}

function peers(rows: readonly Row[]): TopLevelSpec | undefined {
  return systems(
    rows,
    /^peers\/\w+\/t\d+$/,
    'VGG16 on one image, in every runtime',
    (row) => `${runtime(row)}, ${threads(row)}`,
  );
}

function webgpu(rows: readonly Row[], level: Level): TopLevelSpec | undefined {
  const size = rows
    .find((row) => row.level === level)
    ?.input.slice(2)
    .join('×');
  const panel = (row: Row): string => `${runtime(row)}, ${row.adapter}`;
  return systems(rows, new RegExp(`^${level}/`), `VGG16 by WebGPU on one image of ${size}`, panel);
}

/** The library's rows and its peers', of the groups whose ids match. */
function systems(
  rows: readonly Row[],
  groups: RegExp,
  title: string,
  panel: (row: Row) => string,
): TopLevelSpec | undefined {
  const own = rows.filter(({ group }) => groups.test(group));
  const data = own.map((row) => {
    const ours = row.system.name === 'vggnet';
    const label = ours ? `vggnet ${row.build}` : `${row.system.name} ${row.system.version} (${row.backend})`;
    return bar(row, label, panel(row), ours ? 'vggnet' : 'peers');
  });
  return bars(byPanel(data), {
    title: `${title}: lower is better`,
    subtitle: [SPREAD, `Same weights and input, systems sampled in turn. ${machine(own)}`],
    x: 'latency, ms',
    kinds: ['vggnet', 'peers'],
    colours: [OURS, THEIRS],
  });
}

function runtimes(rows: readonly Row[]): TopLevelSpec | undefined {
  const own = rows.filter(({ level }) => level === 'runtimes');
  const data = own.map((row) => {
    return bar(row, runtime(row), threads(row), row.build);
  });
  const kinds = [...new Set(data.map(({ kind }) => kind))].sort();
  return bars(byPanel(data), {
    title: 'VGG16 on one image, in every runtime: lower is better',
    subtitle: [SPREAD, `The kernel build is the one that the library takes there. ${machine(own)}`],
    x: 'latency, ms',
    kinds,
    colours: [OURS, OURS_LIGHT, ...COLOURS.slice(1)].slice(0, kinds.length),
  });
}

function networks(rows: readonly Row[]): TopLevelSpec | undefined {
  const own = rows.filter(({ level }) => level === 'networks');
  const data = own.map((row) =>
    bar(
      row,
      row.network,
      `batch ${row.batch}, ${threads(row)}`,
      row.network.endsWith('_bn') ? 'batch norm (folded)' : 'plain',
      1 / row.batch,
    ),
  );
  const kinds = [...new Set(data.map(({ kind }) => kind))];
  return bars(byPanel(data), {
    title: 'Time for one image of 224×224: lower is better',
    subtitle: [SPREAD, machine(own)],
    x: 'ms an image',
    kinds,
    colours: [OURS, OURS_LIGHT].slice(0, kinds.length),
  });
}

function scaling(rows: readonly Row[]): TopLevelSpec | undefined {
  const own = rows.filter(({ level }) => level === 'scaling');
  if (own.length === 0) return undefined;
  const rate = (row: Row, ms: number): number => (1000 * row.batch) / ms;
  const values = own.map((row) => ({
    batch: row.batch,
    threads: threads(row),
    rate: rate(row, row.median),
    low: rate(row, row.p90),
    high: rate(row, row.min),
    text: rate(row, row.median).toFixed(2),
  }));
  const batches = [...new Set(values.map(({ batch }) => batch))].sort((a, b) => a - b);
  return {
    ...base('VGG16: images a second by batch and threads', [
      'point: median; line: 90th percentile to fastest sample',
      machine(own),
    ]),
    data: { values },
    width: WIDTH,
    height: 280,
    encoding: {
      x: {
        field: 'batch',
        type: 'quantitative',
        title: 'batch, images',
        scale: { type: 'log', base: 2, domain: [0.9, (batches.at(-1) ?? 1) * 1.2] },
        axis: { values: batches, format: 'd' },
      },
      color: {
        field: 'threads',
        type: 'nominal',
        title: null,
        sort: null,
        scale: { range: COLOURS },
        legend: { orient: 'bottom' },
      },
    },
    layer: [
      {
        mark: { type: 'line', strokeWidth: 2 },
        encoding: { y: { field: 'rate', type: 'quantitative', title: 'images a second', scale: { zero: true } } },
      },
      {
        mark: { type: 'rule', strokeWidth: 2 },
        encoding: { y: { field: 'low', type: 'quantitative' }, y2: { field: 'high' } },
      },
      {
        mark: { type: 'point', filled: true, size: 60, opacity: 1 },
        encoding: { y: { field: 'rate', type: 'quantitative' } },
      },
      {
        mark: { type: 'text', dy: -12, fontSize: 11 },
        encoding: { y: { field: 'high', type: 'quantitative' }, text: { field: 'text' } },
      },
    ],
  };
}

function layers(rows: readonly Row[]): TopLevelSpec | undefined {
  const own = rows.filter((row) => row.level === 'layers' && row.threads === 1);
  const values = own.flatMap((row) =>
    (row.layers ?? []).map(({ name, samples }) => ({
      // What is fused into every layer need not be said.
      layer: name.replace(/\+(relu|drop)\w+/g, ''),
      build: row.build,
      median: median(samples),
      low: Math.min(...samples),
      high: quantile(samples, 0.9),
    })),
  );
  if (values.length === 0) return undefined;
  const builds = [...new Set(values.map(({ build }) => build))];
  return {
    ...base('VGG16, one image, one thread: time of every layer', [
      'bar: median; line: smallest sample to 90th percentile',
      machine(own),
    ]),
    data: { values },
    width: 720,
    height: 280,
    encoding: {
      x: { field: 'layer', type: 'nominal', sort: null, title: null, axis: { labelAngle: -45 } },
      xOffset: { field: 'build', sort: builds },
    },
    layer: [
      {
        mark: { type: 'bar' },
        encoding: {
          y: { field: 'median', type: 'quantitative', title: 'time, ms' },
          color: {
            field: 'build',
            type: 'nominal',
            title: null,
            sort: builds,
            scale: { range: [OURS_LIGHT, OURS] },
            legend: { orient: 'bottom' },
          },
        },
      },
      {
        mark: { type: 'rule', color: '#222' },
        encoding: { y: { field: 'low', type: 'quantitative' }, y2: { field: 'high' } },
      },
    ],
  };
}

/** Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance Model", 2009. */
function roofline(rows: readonly Row[]): TopLevelSpec | undefined {
  const build = ['relaxed-simd', 'simd'].find((name) => rows.some(({ id }) => id === `kernels/${name}/limit/compute`));
  const find = (name: string): Row | undefined => rows.find(({ id }) => id === `kernels/${build}/limit/${name}`);
  const [compute, memory] = [find('compute'), find('memory')];
  if (!compute || !memory) return undefined;
  const peak = compute.gflops;
  const bandwidth = memory.bytes / memory.median / 1e6;
  const points = rows
    .filter((row) => row.level === 'kernels' && row.build === build && row.macs > 0 && row !== compute)
    .map((row) => {
      const [operation = '', which = ''] = row.id.split('/').slice(2);
      return { operation, which, intensity: (2 * row.macs) / row.bytes, gflops: row.gflops };
    });
  const xs = [0.25, peak / bandwidth, 1000];
  const roof = xs.map((x) => ({ x, y: Math.min(peak, x * bandwidth) }));
  const most = Math.max(peak, ...points.map(({ gflops }) => gflops));
  const x: Position = {
    field: 'x',
    type: 'quantitative',
    title: 'arithmetic intensity, FLOP for each byte that must move',
    scale: { type: 'log', domain: [0.25, 1000] },
  };
  const y: Position = {
    field: 'y',
    type: 'quantitative',
    title: 'GFLOP/s (of the direct method)',
    scale: { type: 'log', domain: [4, most * 1.4] },
  };
  return {
    ...base(`Roofline of one thread, ${build} build`, [
      `roof: ${peak.toFixed(0)} GFLOP/s in the bare micro-kernel, ${bandwidth.toFixed(0)} GB/s from memory, in this run`,
      'Winograd does the same work with a quarter of the multiplications.',
      'Weights that fit a cache come faster than from memory.',
      machine([compute]),
    ]),
    width: WIDTH,
    height: 360,
    layer: [
      { data: { values: roof }, mark: { type: 'line', color: '#222', strokeWidth: 2 }, encoding: { x, y } },
      {
        data: { values: points.map(({ intensity, gflops, ...rest }) => ({ ...rest, x: intensity, y: gflops })) },
        mark: { type: 'point', filled: true, size: 70, opacity: 0.85 },
        encoding: {
          x,
          y,
          color: {
            field: 'operation',
            type: 'nominal',
            title: null,
            sort: null,
            scale: { range: COLOURS },
            legend: { orient: 'bottom' },
          },
          shape: { field: 'operation', type: 'nominal', title: null, sort: null },
        },
      },
    ],
  };
}

function runtime({ runtime: { name, version } }: Row): string {
  return `${name.replace(/\d+$/, '')} ${version}`;
}
