import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, View } from 'vega';
import { compile, type TopLevelSpec } from 'vega-lite';
import type { Row } from '../record.js';
import { makePlots } from './plots.js';
import { formatReport, PLOTS } from './tables.js';

/** Writes the tables and plots of a run: README.md and NAME.svg, or quick.md and quick-NAME.svg. */
export async function writeReport(folder: string, rows: readonly Row[], kind: 'full' | 'quick'): Promise<void> {
  const prefix = kind === 'full' ? '' : 'quick-';
  const plots = makePlots(rows);
  for (const [name] of Object.values(PLOTS).flat()) {
    const path = join(folder, `${prefix}${name}.svg`);
    const spec = plots.get(name);
    // What an older run drew, and this one has no rows for, must not stand beside its tables.
    if (spec) writeFileSync(path, `${await renderSvg(spec, name)}\n`);
    else rmSync(path, { force: true });
  }
  const title = kind === 'full' ? 'Results' : 'Results of a quick run: VGG16 with 256 features in its classifier';
  const text = formatReport(rows, { prefix, plots: new Set(plots.keys()), title });
  writeFileSync(join(folder, kind === 'full' ? 'README.md' : 'quick.md'), text);
}

/** Vega draws without a browser; texts' widths are estimates there. */
async function renderSvg(spec: TopLevelSpec, name: string): Promise<string> {
  const view = new View(parse(compile(spec).spec), { renderer: 'none' });
  const svg = await view.toSVG();
  view.finalize();
  return svg.replace(/^<svg[^>]*>/, (open) => `${open}<title>${name}</title>`);
}
