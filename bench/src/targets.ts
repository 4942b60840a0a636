import { MODEL_NAMES } from '../../src/vgg.js';
import { QUICK_NETWORK } from './network.js';
import { countedGroups, type Ratio, rowRatios } from './ratios.js';
import type { Row } from './record.js';
import { type Estimate, estimate } from './stats.js';

/*
 * The ratios that the library promises, and those that it strives for, each from rows of one group and run; and figures of
 * single rows that hardly depend on the machine.
 */

export interface Target {
  readonly what: string;
  /** Id of our row. */
  readonly row: string;
  /** Ids of what it is over: the fastest of them that was measured. None for a figure of the row alone. */
  readonly over: readonly string[];
  readonly of: Ratio['of'] | keyof typeof FIGURES;
  /** Compare times for an image, or for a multiply-accumulate, where the rows' work differs. */
  readonly per?: 'image' | 'MAC';
  /** The kernel build that our row must have run. */
  readonly build?: string;
  readonly must: number;
  readonly goal?: number;
}

const own = (what: string, row: string, of: keyof typeof FIGURES, must: number): Target => ({
  ...{ what, row, over: [], of, must },
});

type Values = readonly number[] | undefined;

/** Of single rows, for each sample; undefined where the row does not tell. */
const FIGURES = {
  /** What the process grew by, over the size of its file. */
  growth: (row: Row): Values => growth(row)?.map((bytes) => bytes / (row.fileBytes ?? Number.NaN)),
  /** What the process grew by, in the 128 MB that edge workers have. */
  edge: (row: Row): Values => growth(row)?.map((bytes) => bytes / 128e6),
  /** Seconds for a gigabyte. */
  reading: ({ fileBytes, samples }: Row): Values =>
    fileBytes ? samples.map((ms) => (ms * 1e6) / fileBytes) : undefined,
} as const;

function growth({ peaks, baseMemory }: Row): number[] | undefined {
  return baseMemory === undefined ? undefined : peaks?.map((peak) => peak - baseMemory);
}

const time = (what: string, row: string, over: string | readonly string[], must: number, goal?: number): Target => ({
  ...{ what, row, of: 'time', must },
  over: typeof over === 'string' ? [over] : over,
  ...(goal !== undefined && { goal }),
});

const ours = (threads: number): string => `peers/vggnet-wasm-relaxed-simd/t${threads}`;
const ortWeb = 'onnxruntime-web-wasm';

export const TARGETS: readonly Target[] = [
  time('one thread, against onnxruntime-web wasm', ours(1), `peers/${ortWeb}/t1`, 0.26, 0.18),
  time('one thread, against onnxruntime-node (native)', ours(1), 'peers/onnxruntime-node-native/t1', 0.95, 0.65),
  time('two threads, against onnxruntime-node (native)', ours(2), 'peers/onnxruntime-node-native/t2', 1, 0.7),
  time('two threads, against its own one', 'networks/vgg16/b1/t2', 'networks/vgg16/b1/t1', 0.57, 0.52),
  {
    ...time(
      'plain SIMD (Node 20), against onnxruntime-web wasm',
      'peers/node/vggnet-wasm/t1',
      `peers/node/${ortWeb}/t1`,
      0.34,
      0.24,
    ),
    build: 'simd',
  },
  ...[1, 2].map((count) => ({
    ...time(
      `batch 8 an image, against batch 1, ${count === 1 ? 'one thread' : 'two threads'}`,
      `networks/vgg16/b8/t${count}`,
      `networks/vgg16/b1/t${count}`,
      ...([0.95, 0.85] as const),
    ),
    per: 'image' as const,
  })),
  {
    ...time(
      'peak memory of load and forward, against onnxruntime-web',
      'load/vggnet-wasm',
      `load/${ortWeb}`,
      0.45,
      0.35,
    ),
    of: 'memory',
  },
  time('file to first logits, against onnxruntime-web', 'load/vggnet-wasm', `load/${ortWeb}`, 0.35, 0.2),
  ...['deno', 'bun', 'chromium', 'firefox'].flatMap((runtime) =>
    [1, 2].map((count) =>
      time(
        `${runtime}, ${count === 1 ? 'one thread' : 'two threads'}, against onnxruntime-web there`,
        `peers/${runtime}/vggnet-wasm/t${count}`,
        `peers/${runtime}/${ortWeb}/t${count}`,
        0.5,
      ),
    ),
  ),
  ...MODEL_NAMES.filter((model) => model !== 'vgg16').map((model) => ({
    ...time(
      `${model} for a multiply-accumulate, against vgg16`,
      `networks/${model}/b1/t1`,
      `networks/${model}/beside-vgg16/t1`,
      1.1,
    ),
    per: 'MAC' as const,
  })),
  own('peak of memory over the file, in a worker', 'weights/memory/worker', 'growth', 1.6),
  own('the same, inline', 'weights/memory/inline', 'growth', 1.6),
  own('the same, from a .pth file, in a worker', 'weights/memory/pth', 'growth', 1.6),
  own('the same with a memoryLimit of 550 MiB, in a worker', 'weights/memory/worker-limit', 'growth', 1.15),
  own('the same, inline', 'weights/memory/inline-limit', 'growth', 1.15),
  own('peak of memory in int8 and int4, inline, over 128 MB', 'weights/memory/int8-int4', 'edge', 1),
  ...(['safetensors', 'pth', 'onnx'] as const).map((format) =>
    own(`seconds to read a gigabyte of ${format}`, `weights/read/${format}`, 'reading', 1),
  ),
  time('int8 against float32, one thread', 'backends/int8/t1', ['backends/fp32/t1'], 0.77),
  time(
    'WebGPU in Chromium, VGG16 at 224×224, against the faster of onnxruntime-web and tfjs',
    'webgpu-full/chromium/vggnet',
    ['webgpu-full/chromium/onnxruntime-web', 'webgpu-full/chromium/tfjs'],
    0.25,
  ),
];

export interface Outcome {
  readonly target: Target;
  readonly row: Row;
  /** Undefined for a figure of the row alone. */
  readonly against: Row | undefined;
  readonly ratio: Estimate & { readonly rounds: number };
}

/** The targets that these rows can judge: a quick run's are of another network. */
export function judge(rows: readonly Row[], targets: readonly Target[] = TARGETS): Outcome[] {
  const whole = rows.filter(({ network }) => network !== QUICK_NETWORK);
  const counted = new Map([...countedGroups(whole).values()].flat().map((row) => [row.id, row]));
  return targets.flatMap((target) => {
    const row = counted.get(target.row);
    if (target.of in FIGURES) return row ? judgeAlone(target, row) : [];
    const against = target.over
      .map((id) => counted.get(id))
      .filter((one) => one !== undefined)
      .sort((a, b) => a.median - b.median)[0];
    if (!row || !against || (target.build && row.build !== target.build)) return [];
    const ratio = rowRatios(row, against, workOf(against, target) / workOf(row, target)).find(
      ({ of }) => of === target.of,
    );
    return ratio ? [{ target, row, against, ratio }] : [];
  });
}

function judgeAlone(target: Target, row: Row): Outcome[] {
  const values = FIGURES[target.of as keyof typeof FIGURES](row);
  if (!values || values.length === 0) return [];
  return [{ target, row, against: undefined, ratio: { ...estimate(values), rounds: values.length } }];
}

function workOf(row: Row, { per }: Target): number {
  if (per === 'image') return row.batch;
  return per === 'MAC' ? row.macs : 1;
}
