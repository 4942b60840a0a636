import type { TopLevelSpec } from 'vega-lite';
import type { Row } from '../record.js';

/* Bars with their spread, and what all plots have in common. */

export const WIDTH: number = 560;
/** Colours that people who see few colours can tell apart (Okabe and Ito, 2008). */
export const OURS: string = '#0072b2';
export const OURS_LIGHT: string = '#56b4e9';
export const THEIRS: string = '#999999';
export const COLOURS: string[] = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#d55e00', '#56b4e9'];

export function base(
  title: string,
  subtitle: string[],
): Pick<TopLevelSpec, 'config' | 'title' | 'background' | 'padding'> & {
  $schema: string;
} {
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    background: 'white',
    padding: 12,
    title: {
      text: title,
      subtitle: subtitle.flatMap(wrap),
      anchor: 'start',
      fontSize: 15,
      subtitleFontSize: 11,
      subtitleColor: '#555',
      offset: 12,
    },
    config: {
      // Every mark's values as labels would be most of the file; the picture's alt text and the table stand for them.
      aria: false,
      font: 'Helvetica, Arial, sans-serif',
      axis: { labelFontSize: 11, titleFontSize: 11, titleFontWeight: 'normal', gridColor: '#e6e6e6' },
      legend: { labelLimit: 300, labelFontSize: 11, titleFontSize: 11, titleFontWeight: 'normal' },
      header: { labelFontSize: 12, titleFontSize: 11, labelFontWeight: 'bold' },
      view: { stroke: null },
    },
  };
}

/** Vega's estimate of a text's width is generous, and a long line makes the whole picture wider. */
const LINE = 80;

function wrap(text: string): string[] {
  return text.split(' ').reduce<string[]>((lines, word) => {
    const last = lines.at(-1);
    if (last === undefined || last.length + word.length >= LINE) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
    return lines;
  }, []);
}

export const SPREAD: string = 'bar: median; line: smallest sample to 90th percentile; dots: all samples';

export interface Bar {
  readonly label: string;
  readonly panel: string;
  readonly kind: string;
  readonly median: number;
  readonly low: number;
  readonly high: number;
  readonly samples: readonly number[];
  readonly text: string;
  /** Where the text stands: past all samples. */
  readonly end: number;
}

export function bar(row: Row, label: string, panel: string, kind: string, scale = 1): Bar {
  return {
    ...{ label, panel, kind },
    median: row.median * scale,
    low: row.min * scale,
    high: row.p90 * scale,
    samples: row.samples.map((ms) => ms * scale),
    text: `${Math.round(row.median * scale)}`,
    end: Math.max(...row.samples) * scale,
  };
}

/** Horizontal bars with their spread, in panels one under the other. */
export function bars(
  data: readonly Bar[],
  {
    title,
    subtitle,
    x,
    kinds,
    colours,
  }: { title: string; subtitle: string[]; x: string; kinds: string[]; colours: string[] },
): TopLevelSpec | undefined {
  if (data.length === 0) return undefined;
  const most = Math.max(...data.map(({ samples }) => Math.max(...samples)));
  const panels = [...new Set(data.map(({ panel }) => panel))];
  const color = {
    field: 'kind',
    type: 'nominal',
    title: null,
    scale: { domain: kinds, range: colours },
    legend: kinds.length > 1 ? { orient: 'bottom' } : null,
  } as const;
  return {
    ...base(title, subtitle),
    spacing: 14,
    vconcat: panels.map((panel, i) => ({
      title: { text: panel, anchor: 'start', frame: 'group', fontSize: 12, offset: 4 },
      data: {
        values: data.filter((one) => one.panel === panel).map((one) => ({ ...one, samples: [...one.samples] })),
      },
      width: WIDTH,
      height: { step: 26 },
      encoding: {
        x: {
          type: 'quantitative',
          title: i === panels.length - 1 ? x : null,
          scale: { domain: [0, most * 1.1], nice: false },
        },
        y: {
          field: 'label',
          type: 'nominal',
          sort: null,
          title: null,
          axis: { labelLimit: 300, ticks: false, domain: false },
        },
      },
      layer: [
        { mark: { type: 'bar', height: 16 }, encoding: { x: { field: 'median' }, color } },
        { mark: { type: 'rule', color: '#222' }, encoding: { x: { field: 'low' }, x2: { field: 'high' } } },
        {
          transform: [{ flatten: ['samples'], as: ['sample'] }],
          mark: { type: 'point', filled: true, size: 14, color: '#222', opacity: 0.5 },
          encoding: { x: { field: 'sample' } },
        },
        {
          mark: { type: 'text', align: 'left', dx: 8, fontSize: 11, fontWeight: 'bold', color: '#222' },
          encoding: { x: { field: 'end' }, text: { field: 'text' } },
        },
      ],
    })),
  } as TopLevelSpec;
}

export function threads(row: Row): string {
  if (row.backend === 'webgpu') return 'WebGPU';
  return row.threads === 1 ? '1 thread' : `${row.threads} threads`;
}

export function machine(rows: readonly Row[]): string {
  const one = rows[0]?.machine;
  return one ? `${one.cpu}, ${one.cores} cores.` : '';
}

/** Panels together, in the order of their first bar. */
export function byPanel(data: readonly Bar[]): Bar[] {
  const panels = [...new Set(data.map(({ panel }) => panel))];
  return panels.flatMap((panel) => data.filter((one) => one.panel === panel));
}
