import { nameOf, type PageRow } from './measure.js';

const SVG = 'http://www.w3.org/2000/svg';
/** Of one row, in CSS pixels: its name above its bar. */
const ROW = 46;
const BAR = 18;
const AXIS = 24;

/** Horizontal bars from 0, with the spread as a line and every sample as a dot, as wide as asked for. */
export function plot(rows: readonly PageRow[], width: number): SVGSVGElement {
  const shown = rows.filter(({ samples, wrong }) => samples.length > 0 && !wrong);
  const height = shown.length * ROW + AXIS;
  const names = shown.map((row) => `${label(row)}: ${format(row.median)} ms`).join('; ');
  const svg = element('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `Medians: ${names}` });
  const largest = Math.max(...shown.flatMap(({ samples }) => samples), 0.001);
  const step = tickStep(largest, width / 90);
  // Half a label's width is left free at the right.
  const scale = (width - 24) / largest;
  for (let tick = 0; tick * step * scale <= width - 16; tick++) {
    const x = tick * step * scale;
    svg.append(
      element('line', { class: 'axis', x1: x, x2: x, y1: 0, y2: height - AXIS }),
      text(String(Number((tick * step).toPrecision(6))), x, height - 8, 'tick', tick === 0 ? 'start' : 'middle'),
    );
  }
  for (const [i, row] of shown.entries()) {
    const top = i * ROW + 22;
    const middle = top + BAR / 2;
    svg.append(
      text(`${label(row)}: ${format(row.median)} ms`, 0, top - 6),
      element('rect', { class: 'bar', x: 0, y: top, width: row.median * scale, height: BAR }),
      element('line', { class: 'spread', x1: row.min * scale, x2: row.p90 * scale, y1: middle, y2: middle }),
      ...row.samples.map((ms) => element('circle', { class: 'dot', cx: ms * scale, cy: middle, r: 3 })),
    );
  }
  return svg;
}

export function label({ backend, build, threads }: PageRow): string {
  const variant = { backend: backend as 'wasm' | 'webgpu', threads };
  return nameOf(build === 'simd' || build === 'relaxed-simd' ? { ...variant, build } : variant);
}

export function format(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

/** The smallest of 1, 2, 5 · 10^n by which there are at most `most` ticks. */
function tickStep(largest: number, most: number): number {
  const power = 10 ** Math.floor(Math.log10(largest / most));
  return power * ([1, 2, 5].find((factor) => largest / (factor * power) <= most) ?? 10);
}

function text(content: string, x: number, y: number, name = '', anchor = 'start'): SVGElement {
  const made = element('text', { class: name, x, y, 'text-anchor': anchor });
  made.textContent = content;
  return made;
}

function element<Name extends keyof SVGElementTagNameMap>(
  name: Name,
  attributes: Readonly<Record<string, string | number>>,
): SVGElementTagNameMap[Name] {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}
